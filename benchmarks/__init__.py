"""Measurements that are too long for the tests; each prints what benchmarks/RESULTS.md keeps."""
