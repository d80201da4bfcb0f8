"""Attention, recurrence and pooling blocks that two or more methods share; one idea per file."""
