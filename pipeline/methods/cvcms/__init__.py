"""CVCMS (NeurIPS 2021)."""
