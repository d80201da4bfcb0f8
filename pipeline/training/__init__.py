"""The training loop that all methods share, and the runs of params.yaml around it."""
