"""Training as pure functions: a state, one step for every arm, loops over it. Never touches the disk."""
