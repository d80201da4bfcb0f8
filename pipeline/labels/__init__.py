"""Segment labels of clips, made from a teacher's scores, for methods that learn from ``pseudo_labels``."""
