"""Inputs, settings, base classes and losses that several methods share."""
