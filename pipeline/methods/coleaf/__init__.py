"""CoLeaF (ECCV 2024)."""
