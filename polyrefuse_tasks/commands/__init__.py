"""The sub-commands of `polyrefuse` in this package: one module for each."""
