"""MAGAN, corrected: attention within each modality, across them, and gates."""
