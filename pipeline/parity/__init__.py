"""Compare two feature stores of the same clips, and find the cause of their difference by trying likely ones.

``pairs`` reads them side by side, ``measures`` measures their distance. ``hypotheses``, ``fits`` and ``order`` are the hypotheses that
``numbers`` tries on the numbers alone; ``changes`` are those for which ``inputs`` encodes clips again. ``search`` runs both, ``verdict``
decides what counts as a cause, ``report`` writes the result.
"""
