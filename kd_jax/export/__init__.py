"""A trained network as files that other programs open: weights, a folder for transformers, a compiled program."""
