"""Pairs that share an alert and a symptom, and not the cause."""

from evals.faults.fault import Fault

LOOK_ALIKES: tuple[Fault, ...] = ()
