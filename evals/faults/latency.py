"""Faults that make commands wait."""

from evals.faults.fault import Fault

LATENCY_FAULTS: tuple[Fault, ...] = ()
