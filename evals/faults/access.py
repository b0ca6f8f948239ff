"""Faults of clients: slots, blocking, credentials."""

from evals.faults.fault import Fault

ACCESS_FAULTS: tuple[Fault, ...] = ()
