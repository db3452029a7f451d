"""The checks of `polyrefuse doctor`: a module for each kind, and the table of all of them."""
