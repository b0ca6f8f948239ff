"""Modes that are not in the catalogue: the right answer is `unknown`."""

from evals.faults.fault import Fault

UNCATALOGUED: tuple[Fault, ...] = ()
