"""Training recipes by name, and the paper's settings, as data."""
