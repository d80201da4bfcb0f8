"""One training loop for every method, and the rows of ``runs`` around it."""
