"""What families of methods share: their inputs, settings, base classes and losses."""
