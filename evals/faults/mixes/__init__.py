"""What makes a suite hard: pairs, doubles, gaps in the evidence, red herrings, the unknown."""

from evals.faults.fault import Fault
from evals.faults.mixes.blind import BLIND
from evals.faults.mixes.double import DOUBLE
from evals.faults.mixes.healthy import HEALTHY
from evals.faults.mixes.herrings import HERRINGS
from evals.faults.mixes.look_alikes import LOOK_ALIKES
from evals.faults.mixes.uncatalogued import UNCATALOGUED

MIXES: tuple[Fault, ...] = HEALTHY + LOOK_ALIKES + DOUBLE + BLIND + HERRINGS + UNCATALOGUED
