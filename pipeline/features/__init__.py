"""Features of clips: extraction, the store, and the import of published features."""
