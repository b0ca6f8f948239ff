"""Which nodes the evidence is of, and a failover between two looks, which is said. Pure."""

from collections.abc import Sequence

from agent.incident import Diagnosis, EvidenceSummary, Incident
from tools.reading import Evidence

_PRIMARY = " (master)"


def nodes_seen(incident: Incident) -> list[EvidenceSummary]:
    """The last look at all nodes of a deployment, where there was one: which node it is about."""
    seen = [piece for piece in incident.evidence if piece.tool == "nodes"]
    return seen[-1:]


def told_of_failovers(diagnosis: Diagnosis, evidence: Sequence[Evidence]) -> Diagnosis:
    """The diagnosis, with what the failover leaves unmeasured; a person is to look at it, too."""
    if (said := failover(evidence)) is None:
        return diagnosis
    return diagnosis.model_copy(
        update={"not_measured": [*diagnosis.not_measured, said], "escalate": True}
    )


def failover(evidence: Sequence[Evidence]) -> str | None:
    """What happened, where another node was the primary later on than at first."""
    primaries: dict[str, str] = {}
    for piece in evidence:
        address, _, role = piece.node.partition(" ")
        if role == _PRIMARY.strip():
            primaries.setdefault(address, piece.id)
        elif address in primaries and role:
            primaries.setdefault(f"{address} {role}", piece.id)
    if len(primaries) < 2:
        return None
    first, (second, since), *_ = [*primaries.items()]
    return (
        f"one server alone: the primary was {first[0]} and, from {since} on, what answers is "
        f"{second}; a failover came between: look again (reinvestigate) when it has settled"
    )
