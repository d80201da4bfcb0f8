"""UnAV (CVPR 2023)."""
