"""Faults of a real three-node cluster."""

from evals.faults.fault import Fault

CLUSTER_FAULTS: tuple[Fault, ...] = ()
