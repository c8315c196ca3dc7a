"""Recipes and the paper's settings, as data."""
