"""Places to encode clips: this process, or the nodes of a Ray cluster."""
