"""Faults of the server's own work: expiry, defragmentation, forks, pages it keeps."""

from evals.faults.fault import Fault

UPKEEP_FAULTS: tuple[Fault, ...] = ()
