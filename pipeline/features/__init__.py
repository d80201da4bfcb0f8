"""Encoders over clips: the extraction runner and the feature store."""
