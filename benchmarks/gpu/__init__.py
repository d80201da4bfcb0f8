"""The benchmark of a whole graphics card in one command: ``python -m benchmarks.gpu``."""
