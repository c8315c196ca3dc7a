"""What arrays say about a student and its teacher. NumPy and SciPy only: no JAX, no disk, no plotting, no rounding."""
