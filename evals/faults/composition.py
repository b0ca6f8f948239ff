"""Faults in what the memory is made of: encodings, scripts, modules, growth, a MONITOR left on."""

from evals.faults.fault import Fault

COMPOSITION_FAULTS: tuple[Fault, ...] = ()
