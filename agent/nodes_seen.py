"""Which nodes the evidence is of, and a failover between two looks, which is said. Pure."""

from collections.abc import Sequence

from agent.incident import Diagnosis, EvidenceSummary, Incident
from tools.reading import Evidence, printable

MOST_NAMED = 3


def nodes_seen(incident: Incident) -> list[EvidenceSummary]:
    """The last look at all nodes of a deployment, where there was one: which node it is about."""
    seen = [piece for piece in incident.evidence if piece.tool == "nodes"]
    return seen[-1:]


def told_of_nodes(diagnosis: Diagnosis, evidence: Sequence[Evidence]) -> Diagnosis:
    """The diagnosis, with what a failover or a silent node leaves unmeasured.

    A person is to look at it, too. While a node is silent nobody can say that nothing is wrong.
    """
    silent = silent_nodes(evidence)
    said = [text for text in (failover(evidence), silent) if text is not None]
    if not said:
        return diagnosis
    update: dict[str, object] = {
        "not_measured": [*diagnosis.not_measured, *said], "escalate": True,
    }  # fmt: skip
    if silent is not None and not diagnosis.is_incident:
        update |= {
            "root_cause": "unknown",
            "title": "A node of the deployment could not be looked at",
            "summary": f"{silent}. On the node that was looked at: {diagnosis.summary}",
            "is_incident": True,
            "confidence": 0.0,
        }
    return diagnosis.model_copy(update=update)


def silent_nodes(evidence: Sequence[Evidence]) -> str | None:
    """Which nodes of the deployment did not answer, by the last look at all of them, and why."""
    looks = [piece for piece in evidence if piece.tool == "nodes"]
    if not looks:
        return None
    if not looks[-1].measured:
        because = printable(str(looks[-1].reading.get("because", "")), 200)
        return f"the other nodes of the deployment: {because}"
    rows = [row for row in looks[-1].reading["rows"] if "not_measured" in row["numbers"]]
    if not rows:
        return None
    told = [f"{row['node']} ({row['role']}): {row['numbers']['because']}" for row in rows]
    more = f" and {len(told) - MOST_NAMED} more" if len(told) > MOST_NAMED else ""
    return f"nodes that did not answer: {'; '.join(told[:MOST_NAMED])}{more}"


def failover(evidence: Sequence[Evidence]) -> str | None:
    """What happened, where another node was the primary later on than at first."""
    primaries: dict[str, str] = {}
    for piece in evidence:
        address, _, role = piece.node.partition(" ")
        if role == "(master)":
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
