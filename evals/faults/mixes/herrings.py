"""Faults, and healthy servers, beside something striking that is harmless."""

from evals.faults.fault import Fault

HERRINGS: tuple[Fault, ...] = ()
