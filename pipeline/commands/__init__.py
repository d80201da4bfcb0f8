"""The commands of ``python -m pipeline``, one module each; ``add(commands)`` declares a command's arguments.

These modules import nothing heavy at their top, so ``--help`` answers at once; a command imports what it needs when it runs.
"""
