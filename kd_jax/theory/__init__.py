"""The theorem for linear models: simulation beside closed forms, as a study of its own."""
