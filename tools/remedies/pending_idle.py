"""`clear_pending` of what a dead consumer left: handed to another one, or acknowledged."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar, Literal

from tools.connection import Connection
from tools.reading import printable
from tools.remedies.clear_pending import ClearPendingArguments
from tools.remedies.deadlines import milliseconds
from tools.remedies.operation import ALONE, Operation
from tools.remedies.pace import LONGEST_SECONDS, Pace
from tools.remedies.pending_entries import (
    CLAIMED_AT_ONCE,
    Consumer,
    Delivery,
    consumers,
    giving_back,
    idle_entries,
    owners,
    packed_deliveries,
    unpacked_deliveries,
)
from tools.remedies.remedy import Check, Preview, Remedy, Risk, Verification
from tools.remedies.saved_commands import raised
from tools.remedies.stream_groups import EntryId
from tools.remedies.vitals import is_primary, read_vitals, round_trip_seconds
from tools.replies import integer, items

MOST_SKIPPED = 1_000
"""Entries that did not move: with more, the consumer is not as dead as was thought."""
CHANGED = (
    "more than 1,000 of them were acknowledged or taken meanwhile, or refer to entries "
    "that are gone"
)


class ClearIdle(Remedy[ClearPendingArguments]):
    """XCLAIM … JUSTID, or XACK, of exactly those ids that one consumer has had for long.

    Not XAUTOCLAIM: it takes what is idle from any consumer, slow ones that are at work included.
    """

    kind: ClassVar[str] = "clear_pending"
    risk: ClassVar[Risk] = "R3"
    args = ClearPendingArguments

    async def preview(self, connection: Connection, args: ClearPendingArguments) -> Preview:
        """How many, from whom, to whom."""
        key, group = (printable(name) for name in args.names)
        whose, to = printable(args.consumer), printable(args.to_consumer)
        found = (await consumers(connection, *args.names)).get(args.consumer.encode())
        most = min(found.pending if found else 0, args.max_entries)
        claims = args.how == "claim"
        asked = ["XPENDING", key, group, "IDLE", str(args.min_idle_ms), "-", "+"]
        return Preview(
            title=f"Hand what {whose} left pending in {group} of {key} to {to}"
            if claims
            else f"Acknowledge what {whose} left pending in {group} of {key}",
            commands=[
                [*asked, f"<at most {args.max_entries}>", whose],
                ["XCLAIM", key, group, to, str(args.min_idle_ms), "<those ids>", "JUSTID"]
                if claims
                else ["XACK", key, group, "<those ids>"],
            ],
            predicted_effect=f"At most {most:,} entries, handed out at least "
            f"{args.min_idle_seconds} s ago, "
            + (
                f"become {to}'s. Memory falls when {to} acknowledges them: it must read its own "
                "pending entries (XREADGROUP with id 0) and process them"
                if claims
                else "count as processed. THEY WILL NEVER BE PROCESSED: the owner confirmed that "
                "they need not be"
            )
            + ". Those whose entry was trimmed away drop out of the list (7.0 and later).",
            verification=f"{whose} has that many fewer pending",
            rollback=f"those that {to} has not acknowledged go back to {whose}"
            if claims
            else f"they become pending for {whose} again",
            blast_radius=f"at most {most:,} pending entries of {whose}, {CLAIMED_AT_ONCE} at a "
            "time; stops on request, when the target slows down, when over "
            f"{MOST_SKIPPED:,} change hands, and after {LONGEST_SECONDS:.0f} s",
            never_touches="entries of the stream, other consumers and groups, what was handed "
            "out more recently, values. When and how often it was delivered is put back by the "
            "undo; when the consumers were last seen is not, nor what refers to nothing",
        )

    async def preconditions(
        self, connection: Connection, args: ClearPendingArguments
    ) -> list[Check]:
        """A primary; a consumer that asks for nothing; its successor is there."""
        vitals = await read_vitals(connection)
        known = await consumers(connection, *args.names)
        whose = known.get(args.consumer.encode())
        found = [
            page
            async for page in idle_entries(
                connection, *args.names, args.consumer.encode(), args.min_idle_ms, 1
            )
        ]
        checks = [
            is_primary(vitals),
            Check(
                text=f"The consumer has entries pending for {args.min_idle_seconds} s",
                holds=bool(found),
                because=f"{whose.pending:,} pending" if whose else "there is no such consumer",
            ),
        ]
        return checks + (_successor(args, known) if args.how == "claim" else [])

    async def capture(self, connection: Connection, args: ClearPendingArguments) -> dict[str, Any]:
        """Ids, when each was handed out and how often."""
        found: list[Delivery] = []
        pages = idle_entries(
            connection, *args.names, args.consumer.encode(), args.min_idle_ms, args.max_entries
        )
        async for page in pages:
            now = milliseconds(await connection.execute("TIME"))
            found += [Delivery(one.id, now - one.idle_ms, one.deliveries) for one in page]
        known = await consumers(connection, *args.names)
        return {
            "deliveries": packed_deliveries(found),
            "entries": len(found),
            "pending": _pending(known, args.consumer),
            "pending_of_successor": _pending(known, args.to_consumer),
            "round_trip_seconds": await round_trip_seconds(connection),
        }

    async def apply(
        self,
        connection: Connection,
        args: ClearPendingArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """Page by page, of those that nobody has touched since they were captured."""
        done: dict[str, Any] = {"entries_cleared": 0, "batches": 0, "stopped_because": ""}
        done |= {"looked_at": 0, "skipped": [], "under_way": True}
        pace = Pace(connection, captured["round_trip_seconds"], operation)
        move = _claim if args.how == "claim" else _acknowledge
        for page in _pages(captured):
            ids = [one.id for one in page]
            cleared, skipped = await move(connection, args, ids)
            done["entries_cleared"] += cleared
            done["skipped"] += [str(one) for one in skipped]
            done["looked_at"] += len(page)
            done["batches"] += 1
            if len(done["skipped"]) > MOST_SKIPPED:
                done["stopped_because"] = CHANGED
                break
            if stop := await pace.next(done):
                done["stopped_because"] = stop
                break
        return done | {"under_way": False}

    async def verify(
        self, connection: Connection, args: ClearPendingArguments, captured: dict[str, Any]
    ) -> Verification:
        """The consumer has fewer pending."""
        known = await consumers(connection, *args.names)
        done = captured.get("done", {})
        cleared, stopped = done.get("entries_cleared"), done.get("stopped_because", "")
        before, now = captured["pending"], _pending(known, args.consumer)
        measured = {"pending": now, "pending_before": before, "entries_cleared": cleared}
        if args.how == "claim":
            measured["pending_of_successor"] = _pending(known, args.to_consumer)
            measured["pending_of_successor_before"] = captured["pending_of_successor"]
        because = f"{before:,} were pending for {printable(args.consumer)}, {now:,} are"
        if stopped:
            because += f"; stopped: {stopped}"
        promised = captured["entries"] if cleared is None or not stopped else cleared
        helped = now < before and before - now >= promised / 2
        return Verification(helped=helped, because=because, measured=measured)

    async def undo(
        self,
        connection: Connection,
        args: ClearPendingArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """Each back to the consumer that had it, with the time and number of its deliveries."""
        done = captured.get("done", {})
        looked_at = done.get("looked_at", 0)
        # A run that was cut off may have written one page more than it noted.
        reached = looked_at + (CLAIMED_AT_ONCE if done.get("under_way", True) else 0)
        skipped = set(done.get("skipped", []))
        put_back = reached_entries = 0
        for page in _pages(captured, reached):
            ours = [one for one in page if str(one.id) not in skipped]
            reached_entries += len(ours)
            known = await owners(connection, *args.names, [one.id for one in ours])
            if args.how == "claim":
                to = args.to_consumer.encode()
                ours = [one for one in ours if one.id in known and known[one.id].consumer == to]
            else:
                ours = [one for one in ours if one.id not in known]
            commands = list(
                giving_back(
                    *args.names, args.consumer.encode(), ours, force=args.how == "acknowledge"
                )
            )
            replies = raised(await connection.execute_many(commands))
            put_back += sum(len(items(reply)) for reply in replies)
        # Acknowledged by their new owner, taken by a third, gone from the stream, or back already.
        return {"entries_put_back": put_back, "entries_not_put_back": reached_entries - put_back}

    async def verify_undo(
        self, connection: Connection, args: ClearPendingArguments, captured: dict[str, Any]
    ) -> Verification:
        """The consumer has as many pending as before, but for what is done or gone meanwhile."""
        now = _pending(await consumers(connection, *args.names), args.consumer)
        done, undone = captured.get("done", {}), captured.get("undone", {})
        elsewhere = undone.get("entries_not_put_back", 0) + len(done.get("skipped", []))
        before = captured["pending"]
        because = f"{before:,} were pending for {printable(args.consumer)}, {now:,} are again"
        measured = {"pending": now, "pending_before": before}
        return Verification(helped=now >= before - elsewhere, because=because, measured=measured)

    async def settle(
        self, connection: Connection, args: ClearPendingArguments, captured: dict[str, Any]
    ) -> Literal["applied", "not_applied", "unknown"]:
        """Do the first of them still belong to the consumer?"""
        if captured.get("done", {}).get("looked_at"):
            return "applied"
        page = next(_pages(captured), [])
        known = await owners(connection, *args.names, [one.id for one in page])
        whose, to = args.consumer.encode(), args.to_consumer.encode()
        if any(known[one.id].consumer == to for one in page if one.id in known):
            return "applied"
        if all(one.id in known and known[one.id].consumer == whose for one in page):
            return "not_applied"
        return "applied" if args.how == "acknowledge" else "unknown"


def _successor(args: ClearPendingArguments, known: dict[bytes, Consumer]) -> list[Check]:
    whose, to = known.get(args.consumer.encode()), known.get(args.to_consumer.encode())
    return [
        Check(
            text=f"Who had them has asked for nothing for {args.min_idle_seconds} s",
            holds=whose is not None and whose.idle_seconds >= args.min_idle_seconds,
            because=f"for {whose.idle_seconds:.0f} s" if whose else "there is no such consumer",
        ),
        Check(
            text="Who is to have them is there, and asks for work",
            holds=to is not None and to.idle_seconds < args.min_idle_seconds,
            because=f"seen {to.idle_seconds:.0f} s ago" if to else "there is no such consumer",
        ),
    ]


def _pending(known: dict[bytes, Consumer], name: str) -> int:
    found = known.get(name.encode())
    return found.pending if found else 0


def _pages(captured: dict[str, Any], most: int | None = None) -> Iterator[list[Delivery]]:
    deliveries = islice(unpacked_deliveries(captured["deliveries"]), most)
    while page := list(islice(deliveries, CLAIMED_AT_ONCE)):
        yield page


async def _claim(
    connection: Connection, args: ClearPendingArguments, ids: Sequence[EntryId]
) -> tuple[int, list[EntryId]]:
    """How many moved, and which did not. The server itself asks for the idle time."""
    reply = await connection.execute(
        "XCLAIM",
        *args.names,
        args.to_consumer.encode(),
        args.min_idle_ms,
        *map(str, ids),
        "JUSTID",
    )
    moved = {EntryId.of(one) for one in items(reply) if isinstance(one, bytes)}
    return len(moved), [one for one in ids if one not in moved]


async def _acknowledge(
    connection: Connection, args: ClearPendingArguments, ids: Sequence[EntryId]
) -> tuple[int, list[EntryId]]:
    """How many were acknowledged, and which were not: somebody took or acknowledged them."""
    known = await owners(connection, *args.names, ids)
    whose = args.consumer.encode()
    ours = [
        one
        for one in ids
        if one in known and known[one].consumer == whose and known[one].idle_ms >= args.min_idle_ms
    ]
    if ours:
        acknowledged = integer(await connection.execute("XACK", *args.names, *map(str, ours)))
    else:
        acknowledged = 0
    return acknowledged, [one for one in ids if one not in set(ours)]
