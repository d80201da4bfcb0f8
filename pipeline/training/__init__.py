"""One training loop for every method, and the runs of params.yaml around it."""
