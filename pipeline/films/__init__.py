"""From a folder of one's own films, and their labels, to a project of their own."""
