"""Pure functions on NumPy arrays."""
