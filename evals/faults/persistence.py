"""Faults of snapshots and the append-only file, on real disks."""

from evals.faults.fault import Fault

PERSISTENCE_FAULTS: tuple[Fault, ...] = ()
