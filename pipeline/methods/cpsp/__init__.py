"""CPSP: contrastive positive sample propagation."""
