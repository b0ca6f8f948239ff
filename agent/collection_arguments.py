"""Arguments of the remedies for one stream or collection: from the server, and from its owner.

The owner speaks in the arguments that a runbook of theirs gives. Without those, nothing is proposed
that only the owner can know to be right.
"""

from typing import TYPE_CHECKING, Any

from agent.true_names import MARK, true_prefix
from tools.connection import Connection
from tools.reading import printable
from tools.remedies.deadlines import milliseconds
from tools.remedies.stream_groups import EntryId, Stream, read_stream
from tools.remedies.trim_stream import USUAL_NODE

if TYPE_CHECKING:
    from agent.arguments import Gap

MOST_GROUPS = 5
"""Of one stream, with an action each."""
_TYPES = ("list", "zset", "hash", "set")


async def trim_stream(gap: "Gap") -> list[dict[str, Any]]:
    """Behind the slowest group; without groups, half of it, and only where a copy can be kept.

    Raises CommandFailure.
    """
    connection = gap.findings.context.connection
    key = await _key(gap)
    if key is None:
        return []
    stream = await read_stream(connection, key.encode())
    copies = gap.findings.context.backups is not None
    arguments = {"copy_first": copies} | gap.given | {"key": key, "groups": len(stream.groups)}
    before = await _before(connection, stream, int(gap.given.get("keep_seconds", 0)))
    if before is not None:
        arguments["before_id"] = str(before)
    elif not gap.given.get("keep_entries"):
        arguments["keep_entries"] = -(-stream.length // 2)
    most, _ = stream.removable()
    if stream.groups:
        return [arguments] if most >= USUAL_NODE else []
    return [arguments] if copies and stream.length >= 2 * USUAL_NODE else []


async def clear_pending(gap: "Gap") -> list[dict[str, Any]]:
    """What refers to trimmed entries, of each group; more only by the owner's arguments.

    Raises CommandFailure.
    """
    key = await _key(gap)
    if key is None:
        return []
    if gap.given.get("how", "gone") != "gone":
        return [gap.given | {"key": key}]
    stream = await read_stream(gap.findings.context.connection, key.encode())
    groups = [group.name for group in stream.groups if group.pending > stream.length]
    shown = [(name, printable(name, 1_000)) for name in groups]
    # A name that is not shown as it is could be another group's.
    return [
        gap.given | {"key": key, "group": text} for name, text in shown if text.encode() == name
    ][:MOST_GROUPS]


async def trim_collection(gap: "Gap") -> list[dict[str, Any]]:
    """Only by the owner's rule: which end, or which names. Raises CommandFailure."""
    if not (gap.given.get("remove_from") or gap.given.get("match")):
        return []
    key = await _key(gap)
    if key is None:
        return []
    kind = await gap.findings.context.connection.execute("TYPE", key)
    name = kind.decode() if isinstance(kind, bytes) else ""
    return [{"type": name} | gap.given | {"key": key}] if name in _TYPES else []


async def _key(gap: "Gap") -> str | None:
    """The key that is meant, as the server has it; None where it is not certain."""
    shown = str(gap.given.get("key", ""))
    if shown == gap.culprit.name and gap.culprit.kind not in ("key", "stream"):
        return None
    if MARK.search(shown):
        shown = await true_prefix(gap.findings.context.connection, shown, whole=True)
    # An escape or an ellipsis means that the real bytes are not what is shown.
    return None if not shown or "\\" in shown or "…" in shown else shown


async def _before(connection: Connection, stream: Stream, keep_seconds: int) -> EntryId | None:
    """What is to stay begins here: by the groups, by age, or by whichever keeps more."""
    bounds = [stream.needed_from] if stream.needed_from else []
    if keep_seconds:
        now = milliseconds(await connection.execute("TIME"))
        bounds.append(EntryId(max(0, now - keep_seconds * 1000), 0))
    return min(bounds, default=None)
