"""The report: a metrics file for `dvc exp show`, tables beside the papers' numbers, figures, and the page."""
