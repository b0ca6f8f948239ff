"""The fault lab: failure modes caused for real, on throwaway servers."""

from evals.faults.access import ACCESS_FAULTS
from evals.faults.allocator import ALLOCATOR_FAULTS
from evals.faults.buffers import BUFFER_FAULTS
from evals.faults.cluster import CLUSTER_FAULTS
from evals.faults.composition import COMPOSITION_FAULTS
from evals.faults.fault import Expected, Fault
from evals.faults.keys import KEY_FAULTS
from evals.faults.latency import LATENCY_FAULTS
from evals.faults.limits import LIMIT_FAULTS
from evals.faults.mixes import MIXES
from evals.faults.persistence import PERSISTENCE_FAULTS
from evals.faults.replication import REPLICATION_FAULTS
from evals.faults.upkeep import UPKEEP_FAULTS

_ALL: tuple[Fault, ...] = (
    *KEY_FAULTS, *COMPOSITION_FAULTS, *BUFFER_FAULTS, *LIMIT_FAULTS, *ALLOCATOR_FAULTS,
    *UPKEEP_FAULTS, *PERSISTENCE_FAULTS, *LATENCY_FAULTS, *REPLICATION_FAULTS, *ACCESS_FAULTS,
    *CLUSTER_FAULTS, *MIXES,
)  # fmt: skip
FAULTS: dict[str, Fault] = {fault.id: fault for fault in _ALL}
"""Every failure mode that can be caused here, and every mix of them, by id."""

__all__ = ["FAULTS", "Expected", "Fault"]
