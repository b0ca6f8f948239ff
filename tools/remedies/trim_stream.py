"""Trim a stream behind everybody who still needs its entries."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tools.bounded_commands import MOST, MOST_TRIMMED
from tools.catalogue import Arguments
from tools.connection import CommandFailure, Connection
from tools.reading import printable
from tools.remedies.expiry import spoken
from tools.remedies.operation import ALONE, Operation
from tools.remedies.pace import LONGEST_SECONDS, OWN_PAGES, Pace
from tools.remedies.remedy import Check, Preview, Remedy, Risk, Verification
from tools.remedies.saved_commands import Copy, open_copy, packed
from tools.remedies.stream_groups import EntryId, Stream, first_id, read_stream
from tools.remedies.vitals import (
    MIB,
    is_primary,
    read_parameter,
    read_vitals,
    round_trip_seconds,
    sized,
)
from tools.replies import items

STEP_BYTES = 32 * MIB
"""Of entries freed by one XTRIM, by their mean size."""
PAGE_BYTES = 4 * MIB
"""Of entries read for the copy at a time, by their mean size."""
USUAL_NODE = 100
"""stream-node-max-entries: XTRIM ~ frees whole nodes, so a step is at least one."""


class TrimStreamArguments(Arguments):
    """Which entries may go: those before an id, or all but the newest."""

    key: str = Field(min_length=1, max_length=1_000)
    groups: int = Field(ge=0, le=1_000)
    """Consumer groups that were seen. None: nothing shows who reads it, so a copy is kept."""
    before_id: str = Field(default="", pattern=r"^(\d{1,20}-\d{1,20})?$")
    """No entry from here on is touched, whoever has read it."""
    keep_entries: int = Field(default=0, ge=0)
    """The newest so many stay in any case."""
    keep_seconds: int = Field(default=0, ge=0, le=10 * 366 * 86_400)
    """What is younger stays: before_id is no later. Ids are times, as XADD * makes them."""
    copy_first: bool = True
    """Keep what is removed in the backup, encrypted."""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if not self.before_id and (self.groups or not self.keep_entries):
            raise ValueError("before_id is needed; without groups, keep_entries will do")
        if not self.groups and not self.copy_first:
            raise ValueError("without groups, nobody knows who has read it: a copy is needed")
        return self

    @property
    def raw_key(self) -> bytes:
        """The key, as the server has it."""
        return self.key.encode()

    @property
    def before(self) -> EntryId | None:
        """The id in before_id."""
        return EntryId.of(self.before_id) if self.before_id else None


class TrimStream(Remedy[TrimStreamArguments]):
    """XTRIM … MINID ~ … LIMIT, step by step; never what a group was not given or has pending."""

    kind: ClassVar[str] = "trim_stream"
    risk: ClassVar[Risk] = "R3"
    args = TrimStreamArguments

    async def preview(self, connection: Connection, args: TrimStreamArguments) -> Preview:
        """How many entries and bytes, what stays, and that there is no way back."""
        stream = await read_stream(connection, args.raw_key)
        most, counted = _removable(stream, args)
        usage = await connection.execute("MEMORY", "USAGE", args.raw_key)
        freed = ""
        if isinstance(usage, int) and stream.length:
            about = "about" if counted else "at most about"
            freed = f", {about} {sized(usage * most / stream.length)} of {sized(usage)}"
        key = printable(args.key)
        return Preview(
            title=f"Trim the stream {key} to {_bound(args)}",
            commands=_commands(args),
            predicted_effect=f"{'About' if counted else 'At most'} {most:,} of {stream.length:,} "
            f"entries go{freed}. {_readers(stream, args)}Whole nodes are freed, so up to "
            f"{USUAL_NODE} of them stay. The producer goes on adding: bound it where it writes.",
            verification="The entries are gone, and every group still has all it needs",
            rollback="not possible: nothing can be added below the last id of a stream. "
            + (
                "What is removed is in the backup first, as XADD commands for another key"
                if args.copy_first
                else "No copy is kept"
            ),
            blast_radius=f"at most {most:,} entries of {key}, no more than {MOST_TRIMMED:,} at a "
            "time; before each step all groups are looked at again. Stops when one of them needs "
            "an earlier entry, on request, when the target slows down, and after "
            f"{LONGEST_SECONDS:.0f} s",
            never_touches="entries that a group was not given yet or has pending, the groups "
            "themselves, what is pending, other keys",
        )

    async def preconditions(self, connection: Connection, args: TrimStreamArguments) -> list[Check]:
        """A primary, a stream, the groups that were seen, and nothing that one of them needs."""
        vitals = await read_vitals(connection)
        kind = await connection.execute("TYPE", args.raw_key)
        checks = [
            is_primary(vitals),
            Check(
                text="The key is a stream",
                holds=kind == b"stream",
                because=printable(kind) if isinstance(kind, bytes) else "unknown",
            ),
        ]
        if kind != b"stream":
            return checks
        stream = await read_stream(connection, args.raw_key)
        most, _ = _removable(stream, args)
        refused = _refusal(stream, args)
        return [
            *checks,
            Check(
                text=f"{_spoken_groups(args.groups)}, as when this was proposed, and nothing of "
                "what goes is needed",
                holds=not refused,
                because=refused or f"nothing is needed before {stream.needed_from}"
                if stream.groups
                else "no groups",
            ),
            Check(
                text="There are entries to remove",
                holds=most > 0,
                because=f"{most:,} of {stream.length:,} at the most",
            ),
        ]

    async def capture(self, connection: Connection, args: TrimStreamArguments) -> dict[str, Any]:
        """The length, what may go, and the first id: it tells afterwards whether anything went."""
        stream = await read_stream(connection, args.raw_key)
        first = await first_id(connection, args.raw_key)
        most, counted = _removable(stream, args)
        usage = await connection.execute("MEMORY", "USAGE", args.raw_key)
        node = await _node_entries(connection)
        return {
            "length": stream.length,
            "removable": most,
            "counted": counted,
            "first_id": str(first) if first else "",
            "bytes": usage if isinstance(usage, int) else None,
            "node_entries": node,
            "round_trip_seconds": await round_trip_seconds(connection),
        }

    async def apply(
        self,
        connection: Connection,
        args: TrimStreamArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """Step by step; the groups are asked before each."""
        copy = await open_copy(operation, args.raw_key) if args.copy_first else None
        trim = _Trim(connection, args, captured, copy)
        pace = Pace(connection, captured["round_trip_seconds"], operation)
        try:
            while not trim.done["stopped_because"] and await trim.step():
                trim.done["stopped_because"] = await pace.next(trim.done)
        finally:
            if copy is not None:
                trim.done["copy"] = await copy.close()
        return trim.done

    async def verify(
        self, connection: Connection, args: TrimStreamArguments, captured: dict[str, Any]
    ) -> Verification:
        """As many as were promised are gone, and the groups lack nothing."""
        if await _is_gone(connection, args):
            return Verification(helped=None, because="somebody deleted the whole stream since")
        stream = await read_stream(connection, args.raw_key)
        done = captured.get("done", {})
        removed, stopped = done.get("entries_removed"), done.get("stopped_because", "")
        measured = {
            "entries": stream.length,
            "entries_before": captured["length"],
            "entries_removed": removed,
        }
        if removed is None:
            because = "how far the interrupted run came is not known"
            return Verification(helped=None, because=because, measured=measured)
        because = f"{removed:,} entries removed, {stream.length:,} are there"
        if refused := _refusal(stream, args):
            because += f"; since then, {refused}"
        if stopped:
            because += f"; stopped: {stopped}"
        if removed == 0:
            return Verification(helped=False, because=because, measured=measured)
        enough = not stopped or removed >= captured["removable"] / 2
        # What is gone is gone, and was of no use to a group: to go on, or not, is for people.
        return Verification(helped=True if enough else None, because=because, measured=measured)

    async def undo(
        self,
        connection: Connection,
        args: TrimStreamArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """There is none. Raises CommandFailure, unless nothing was removed."""
        removed = captured.get("done", {}).get("entries_removed")
        if removed == 0:
            return {"nothing_to_put_back": "no entry was removed"}
        number = "an unknown number of" if removed is None else f"{removed:,}"
        kept = "a copy is in the backup" if args.copy_first else "no copy was kept"
        raise CommandFailure(
            "error",
            f"put {number} entries of {printable(args.key)} back",
            f"nothing can be added below the last id of a stream; {kept}",
            "add what is still needed under new ids, or to another key"
            if args.copy_first
            else "ask the producer for what is still needed",
        )

    def disturbs(self, args: TrimStreamArguments) -> frozenset[str]:
        """Its XRANGE and XPENDING count with everybody's."""
        return OWN_PAGES

    async def verify_undo(
        self, connection: Connection, args: TrimStreamArguments, captured: dict[str, Any]
    ) -> Verification:
        """An undo that did not fail had nothing to put back."""
        return Verification(helped=True, because="no entry had been removed")

    async def settle(
        self, connection: Connection, args: TrimStreamArguments, captured: dict[str, Any]
    ) -> Literal["applied", "not_applied", "unknown"]:
        """Another first entry than before: entries were removed."""
        if captured.get("done", {}).get("entries_removed"):
            return "applied"
        if await _is_gone(connection, args):  # a trim leaves the key, however short
            return "unknown"
        first = await first_id(connection, args.raw_key)
        return "not_applied" if str(first or "") == captured["first_id"] else "applied"


@dataclass
class _Trim:
    """One trim under way."""

    connection: Connection
    args: TrimStreamArguments
    captured: dict[str, Any]
    copy: Copy | None

    def __post_init__(self) -> None:
        self.done: dict[str, Any] = {"entries_removed": 0, "batches": 0, "stopped_because": ""}
        if self.copy:
            self.done["entries_copied"] = 0
        self._read_from = "-"

    async def step(self) -> bool:
        """One step. False: it is finished, or must not go on."""
        stream = await read_stream(self.connection, self.args.raw_key)
        if refused := _refusal(stream, self.args):
            self.done["stopped_because"] = refused
            return False
        left = self.captured["removable"] - self.done["entries_removed"]
        left = min(left, stream.length - self.args.keep_entries)
        before = self.args.before
        if self.copy is not None:
            before = await self._copied(self.copy, left)
        if before is None or left < 1:
            return False
        limit = min(left, self._step_entries()) if self.args.keep_entries else self._step_entries()
        removed = await self.connection.execute(
            "XTRIM", self.args.raw_key, "MINID", "~", str(before), "LIMIT", limit
        )
        if not isinstance(removed, int):
            raise CommandFailure("error", "XTRIM", "an unexpected reply")
        self.done["entries_removed"] += removed
        self.done["batches"] += 1
        # With a copy, a page may be less than a node: the next one completes it.
        return removed > 0 or self.copy is not None

    async def _copied(self, copy: Copy, left: int) -> EntryId | None:
        """Keep the next page. What is before the id may go; None: there is no further page."""
        # What is copied and still there, of a node that is not yet complete, counts too.
        left -= self.done["entries_copied"] - self.done["entries_removed"]
        if left < 1:
            return None
        end = f"({self.args.before_id}" if self.args.before_id else "+"
        count = min(left, self._sized(PAGE_BYTES, MOST))
        page = items(
            await self.connection.execute(
                "XRANGE", self.args.raw_key, self._read_from, end, "COUNT", count
            )
        )
        if not page:
            return None
        last = b""
        commands = []
        for entry in page:
            match entry:
                case [bytes() as last, list() as fields]:
                    parts = [part for part in fields if isinstance(part, bytes)]
                    commands.append(packed("XADD", self.args.raw_key, last, *parts))
                case _:
                    raise CommandFailure("error", "XRANGE", "an unexpected reply")
        await copy.keep(commands)
        self.done["entries_copied"] += len(commands)
        self._read_from = f"({last.decode()}"
        return EntryId.of(last).next

    def _step_entries(self) -> int:
        return max(self._sized(STEP_BYTES, MOST_TRIMMED), min(self._node(), MOST_TRIMMED))

    def _node(self) -> int:
        return int(self.captured["node_entries"])

    def _sized(self, budget: int, most: int) -> int:
        mean = (self.captured["bytes"] or 0) / max(1, self.captured["length"])
        return max(1, min(most, int(budget / mean) if mean else most))


async def _is_gone(connection: Connection, args: TrimStreamArguments) -> bool:
    return await connection.execute("TYPE", args.raw_key) == b"none"


def _refusal(stream: Stream, args: TrimStreamArguments) -> str:
    """Why nothing may be removed as the groups stand now; empty if it may."""
    if len(stream.groups) != args.groups:
        return f"it has {_counted(len(stream.groups))} now, and had {_counted(args.groups)}"
    needed, before = stream.needed_from, args.before
    if needed is not None and before is not None and needed < before:
        return f"a group needs entries from {needed} on now"
    return ""


def _removable(stream: Stream, args: TrimStreamArguments) -> tuple[int, bool]:
    """Entries that may go, and whether that is a count rather than a bound from above."""
    above = max(0, stream.length - args.keep_entries)
    if not args.groups:
        return above, not args.before_id
    most, counted = stream.removable()
    counted = counted and str(stream.needed_from) == args.before_id
    return min(most, above), counted


def _bound(args: TrimStreamArguments) -> str:
    newest = f"its newest {args.keep_entries:,} entries" if args.keep_entries else ""
    if not args.before_id:
        return newest
    since = "what its slowest group needs" if args.groups else f"ids from {args.before_id} on"
    if args.keep_seconds:
        since += f" (and the last {spoken(args.keep_seconds)})"
    return f"{since}, and {newest}" if newest else since


def _readers(stream: Stream, args: TrimStreamArguments) -> str:
    unseen = "A reader without a group (XREAD, XRANGE) cannot be seen: ask who reads it so. "
    if args.groups:
        return f"{_spoken_groups(args.groups)}, and nothing of this is unread or pending. {unseen}"
    return (
        "NO GROUP READS THIS STREAM: nothing shows what was read, or whether it is a log to keep. "
        f"{unseen}"
    )


def _counted(groups: int) -> str:
    return "no group" if not groups else "1 group" if groups == 1 else f"{groups} groups"


def _spoken_groups(groups: int) -> str:
    if not groups:
        return "No groups read it"
    return "1 group reads it" if groups == 1 else f"{groups} groups read it"


def _commands(args: TrimStreamArguments) -> list[list[str]]:
    key = printable(args.key)
    before = args.before_id or f"<first id of the newest {args.keep_entries}>"
    copying = ["XRANGE", key, "<from>", f"({before}", "COUNT", f"<at most {MOST}>"]
    trimming = ["XTRIM", key, "MINID", "~", before, "LIMIT", f"<at most {MOST_TRIMMED}>"]
    return [copying, trimming] if args.copy_first else [trimming]


async def _node_entries(connection: Connection) -> int:
    found = await read_parameter(connection, "stream-node-max-entries") or ""
    return int(found) if found.isdecimal() and int(found) else USUAL_NODE
