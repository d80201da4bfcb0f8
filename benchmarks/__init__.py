"""Measurements that take too long for the tests; benchmarks/RESULTS.md keeps their output."""
