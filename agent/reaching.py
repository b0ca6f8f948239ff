"""Opening a target for an incident: of several nodes, the one that the incident is about."""

from agent.context import Target
from agent.incident import EvidenceSummary, Incident
from tools.connection import Connection
from tools.opening import open_for_reading
from tools.reads import READS
from tools.recording_file import Recording
from tools.scanner import ScanArguments

MOST_LABELS = 100
LONGEST_LABEL = 300


async def open_target(target: Target, incident: Incident | None = None) -> Connection:
    """The diagnosis identity's connection. One that cannot be opened says so of each command."""
    return await open_for_reading(
        target.url,
        wanted=_wanted(incident) if incident is not None else (),
        follows=target.walk_on != "primary",
    )


def recorded_target(name: str, recording: Recording) -> Target:
    """What a recording is of, for a look at it: as it was looked at when it was made."""
    others = [one for one in recording.others.values() if isinstance(one, Recording)]
    on_replica = not recording.table.scanned and any(one.table.scanned for one in others)
    return Target(
        name=name,
        url="",
        memory_limit=recording.header.memory_limit,
        walk_on="replica" if on_replica else "primary",
        has_several_nodes=bool(recording.others),
    )


def _wanted(incident: Incident) -> list[str]:
    """What may name the node: where it was looked at before, the labels of its alerts.

    An approval, or a run that goes on, is about the node of the evidence.
    """
    goes_on = incident.status not in ("queued", "closed", "resolved", "failed")
    seen = [piece.node for piece in incident.evidence if _is_of_the_node(piece)]
    labels = [value for alert in incident.alerts for value in alert.labels.values()]
    known = [label for label in labels if len(label) <= LONGEST_LABEL][:MOST_LABELS]
    return [*(seen[-1:] if goes_on else ()), *known]


def _is_of_the_node(piece: EvidenceSummary) -> bool:
    """Of the one that is looked at, and answered: a walk may have gone to a replica of it."""
    tool = READS.get(piece.tool)
    walks = tool is not None and issubclass(tool.args, ScanArguments)
    return piece.node.endswith(")") and not walks
