"""MGN (NeurIPS 2022)."""
