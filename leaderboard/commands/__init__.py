"""The sub-commands of `polyrefuse` that this package brings: one module a sub-command."""
