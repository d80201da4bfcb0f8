"""DMIN: supervised and weakly supervised localization, and cross-modality localization."""
