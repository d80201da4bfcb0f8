"""One short file per DVC stage: read params and deps, call `pipeline`, publish outs."""

import os

# OpenMP reads this when torch is imported: waiting threads sleep instead of spinning. On a busy machine, spinning threads wait for a thread
# that has lost its core: with this setting, a training step of CACE-Net took 0.5 s instead of 8 s on two busy cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
