"""Runs -> one metrics file for `dvc exp show`, tables against the papers, figures, and the page."""
