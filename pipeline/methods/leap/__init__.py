"""LEAP: parsing by label tokens that attend to the segments."""
