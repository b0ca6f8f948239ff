"""The fault lab: failure modes caused for real, on throwaway servers."""

from evals.faults.allocator import ALLOCATOR_FAULTS
from evals.faults.buffers import BUFFER_FAULTS
from evals.faults.fault import Expected, Fault
from evals.faults.keys import KEY_FAULTS
from evals.faults.limits import LIMIT_FAULTS

FAULTS: dict[str, Fault] = {
    fault.id: fault for fault in KEY_FAULTS + BUFFER_FAULTS + LIMIT_FAULTS + ALLOCATOR_FAULTS
}
"""Every failure mode that can be caused here, by id."""

__all__ = ["FAULTS", "Expected", "Fault"]
