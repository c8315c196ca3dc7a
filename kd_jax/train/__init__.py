"""Training as pure functions: a state, one step for every arm, epochs over data that lies on the device. Never touches disk."""
