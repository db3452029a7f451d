"""Results held to a baseline: `check`, what it can see, and how it says so."""
