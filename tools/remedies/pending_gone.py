"""`clear_pending` of references to nothing: their entries were trimmed away.

Nobody can process those: a consumer that asks again for what it has pending is given an id without
an entry. They hold memory all the same, and keep a trim from going further.
"""

from typing import Any, ClassVar, Literal

from tools.connection import Connection
from tools.reading import printable
from tools.remedies.clear_pending import ClearPendingArguments
from tools.remedies.operation import ALONE, Operation
from tools.remedies.pace import LONGEST_SECONDS, Pace
from tools.remedies.pending_entries import pages_below
from tools.remedies.remedy import Check, Preview, Remedy, Risk, Verification
from tools.remedies.stream_groups import (
    PAGE,
    EntryId,
    Group,
    Stream,
    first_id,
    pending_page,
    read_stream,
)
from tools.remedies.vitals import is_primary, read_vitals, round_trip_seconds, sized
from tools.replies import integer

BYTES = 84
"""A pending entry costs about that much (measured on 7.0)."""


class ClearGone(Remedy[ClearPendingArguments]):
    """XACK of every pending id below the first entry that the stream still has."""

    kind: ClassVar[str] = "clear_pending"
    risk: ClassVar[Risk] = "R3"
    args = ClearPendingArguments

    async def preview(self, connection: Connection, args: ClearPendingArguments) -> Preview:
        """At least how many, and about how many bytes."""
        group, stream = await _seen(connection, args)
        pending = group.pending if group else 0
        least = max(0, pending - stream.length)
        key, name = printable(args.key), printable(args.group)
        return Preview(
            title=f"Acknowledge what {name} has pending and {key} no longer holds",
            commands=[
                ["XRANGE", key, "-", "+", "COUNT", "1"],
                ["XPENDING", key, name, "-", "(<that id>", str(PAGE)],
                ["XACK", key, name, "<each of those ids>"],
            ],
            predicted_effect=f"At least {least:,} of {pending:,} pending entries go, about "
            f"{sized(least * BYTES)}: the stream holds {stream.length:,} entries, so that these "
            "were trimmed away. Nobody can process them any more. What goes on being delivered "
            "without XACK comes again: fix the consumer.",
            verification=f"Nothing is pending in {name} from before the first entry of {key}",
            rollback="none: the ids refer to nothing. Whoever wants to know what was lost reads "
            "XPENDING first",
            blast_radius=f"the pending list of {name} alone, {PAGE:,} at a time; stops on "
            f"request, when the target slows down, and after {LONGEST_SECONDS:.0f} s",
            never_touches="entries of the stream, pending entries that can still be processed, "
            "what was not delivered, other groups",
        )

    async def preconditions(
        self, connection: Connection, args: ClearPendingArguments
    ) -> list[Check]:
        """A primary, and more is pending than the stream has entries."""
        vitals = await read_vitals(connection)
        checks = [is_primary(vitals)]
        if await connection.execute("TYPE", args.names[0]) != b"stream":
            return [*checks, Check(text="The key is a stream", holds=False, because="it is not")]
        group, stream = await _seen(connection, args)
        pending = group.pending if group else 0
        return [
            *checks,
            Check(
                text="More is pending in the group than the stream has entries",
                holds=pending > stream.length,
                because=f"{pending:,} pending, {stream.length:,} entries"
                if group
                else "there is no such group",
            ),
        ]

    async def capture(self, connection: Connection, args: ClearPendingArguments) -> dict[str, Any]:
        """The id below which no entry is, for good, and what is pending."""
        group, _ = await _seen(connection, args)
        # First what was delivered, then whether it is there: an entry added since is neither.
        first = await first_id(connection, args.names[0])
        bound = first or (group.delivered.next if group else EntryId(0, 0))
        return {
            "gone_before": str(bound),
            "pending": group.pending if group else 0,
            "oldest": str(group.oldest or "") if group else "",
            "round_trip_seconds": await round_trip_seconds(connection),
        }

    async def apply(
        self,
        connection: Connection,
        args: ClearPendingArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """Page by page."""
        done: dict[str, Any] = {"entries_acknowledged": 0, "batches": 0, "stopped_because": ""}
        pace = Pace(connection, captured["round_trip_seconds"], operation)
        bound = EntryId.of(captured["gone_before"])
        async for page in pages_below(connection, *args.names, bound):
            ids = [str(one.id) for one in page]
            done["entries_acknowledged"] += integer(
                await connection.execute("XACK", *args.names, *ids)
            )
            done["batches"] += 1
            if stop := await pace.next(done):
                done["stopped_because"] = stop
                break
        return done

    async def verify(
        self, connection: Connection, args: ClearPendingArguments, captured: dict[str, Any]
    ) -> Verification:
        """None of them is pending any more."""
        group, _ = await _seen(connection, args)
        left = await pending_page(connection, *args.names, "-", f"({captured['gone_before']}", 1)
        done = captured.get("done", {})
        cleared, stopped = done.get("entries_acknowledged"), done.get("stopped_because", "")
        now = group.pending if group else None
        measured = {"pending": now, "pending_before": captured["pending"]}
        measured["entries_acknowledged"] = cleared
        because = f"{captured['pending']:,} were pending, {now:,} are" if group else "no group"
        if left:
            because += f"; some still refer to nothing{f': {stopped}' if stopped else ''}"
        return Verification(helped=not left, because=because, measured=measured)

    async def undo(
        self,
        connection: Connection,
        args: ClearPendingArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """Nothing to put back."""
        return {"nothing_to_put_back": "the entries they referred to are gone since before"}

    async def verify_undo(
        self, connection: Connection, args: ClearPendingArguments, captured: dict[str, Any]
    ) -> Verification:
        """There was nothing to put back."""
        return Verification(helped=True, because="they referred to nothing before, too")

    async def settle(
        self, connection: Connection, args: ClearPendingArguments, captured: dict[str, Any]
    ) -> Literal["applied", "not_applied", "unknown"]:
        """The oldest pending id is another one: some were acknowledged."""
        group, _ = await _seen(connection, args)
        oldest = str(group.oldest or "") if group else ""
        return "not_applied" if oldest == captured["oldest"] else "applied"


async def _seen(connection: Connection, args: ClearPendingArguments) -> tuple[Group | None, Stream]:
    key, name = args.names
    stream = await read_stream(connection, key)
    return next((one for one in stream.groups if one.name == name), None), stream
