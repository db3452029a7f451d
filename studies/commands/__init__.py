"""Sub-commands of `polyrefuse study`."""
