"""Two feature stores of the same clips compared, and the cause of their difference found by trying what could be it.

``pairs`` reads them side by side, ``measures`` says how far apart they are. ``hypotheses``, ``fits`` and ``order`` are what can be tried
on numbers (``numbers`` does), ``changes`` what needs clips encoded again (``inputs`` does). ``search`` goes through both, ``verdict`` says
what may be called a cause, ``report`` writes what came out.
"""
