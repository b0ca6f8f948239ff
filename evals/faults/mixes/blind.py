"""Faults of which part of the evidence cannot be had."""

from evals.faults.fault import Fault

BLIND: tuple[Fault, ...] = ()
