"""The checks of `polyrefuse doctor`: a module for each kind, and `checks` with a table of all."""
