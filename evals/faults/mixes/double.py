"""Two faults at once."""

from evals.faults.fault import Fault

DOUBLE: tuple[Fault, ...] = ()
