"""The sub-commands of `polyrefuse` that this package adds, one module for each."""
