"""AVE-CLIP-style localization."""
