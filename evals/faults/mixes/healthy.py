"""Servers with nothing wrong, or full by design, and an alert all the same."""

from evals.faults.fault import Fault

HEALTHY: tuple[Fault, ...] = ()
