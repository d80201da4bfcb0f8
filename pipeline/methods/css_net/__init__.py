"""CSS-Net-style localization."""
