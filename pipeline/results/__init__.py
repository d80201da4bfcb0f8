"""docs/results/: suites run in clones of their own, one page for each, and what tells old numbers from today's."""
