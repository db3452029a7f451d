"""Safety cards: a page for each model of a study."""
