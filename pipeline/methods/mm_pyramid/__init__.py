"""MM-Pyramid, for parsing and for localization."""
