"""One thin file per DVC stage: read params and deps, call `pipeline`, publish outs."""

import os

# Read by OpenMP when torch is imported: its threads sleep while they wait instead of spinning. On a shared machine a spinning thread
# waits for one that was pushed off its core: a training step of CACE-Net took 0.5 s instead of 8 s on two busy cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
