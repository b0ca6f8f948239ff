"""Faults between a primary and its replicas, on real pairs."""

from evals.faults.fault import Fault

REPLICATION_FAULTS: tuple[Fault, ...] = ()
