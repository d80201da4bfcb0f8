"""The commands of ``python -m pipeline``, one module each: ``add(commands)`` gives its arguments, and what they run.

These modules import nothing heavy at their top, so ``--help`` answers at once: what a command needs is imported when it runs.
"""
