"""What `polyrefuse doctor` looks at: a module for each kind of check, and the table of all."""
