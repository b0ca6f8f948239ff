"""Make one huge collection smaller by a rule that its owner chose, in steps, with a way back."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tools.bounded_commands import MOST
from tools.catalogue import Arguments
from tools.connection import Connection
from tools.reading import printable
from tools.remedies.collection_return import ListReturn, give_back_members
from tools.remedies.collection_rules import (
    CollectionType,
    ListEnd,
    Matching,
    Part,
    RemoveFrom,
    ZsetEnd,
    length_of,
)
from tools.remedies.deadlines import milliseconds
from tools.remedies.operation import ALONE, Operation
from tools.remedies.pace import LONGEST_SECONDS, OWN_PAGES, Pace
from tools.remedies.remedy import Check, Need, Preview, Remedy, Risk, Verification
from tools.remedies.saved_commands import Copy, open_copy
from tools.remedies.vitals import MIB, is_primary, read_vitals, round_trip_seconds, sized

CANARY = 10
"""Elements of the first step: whatever is wrong with the rule or the backup shows there."""
PAGE_BYTES = 4 * MIB
"""Of elements read and removed at a time, by their mean size."""
ENDS: dict[RemoveFrom, CollectionType] = {
    "head": "list",
    "tail": "list",
    "lowest": "zset",
    "highest": "zset",
}
OTHER_TAKER = "somebody else takes from the same end: stop that consumer first"


class TrimCollectionArguments(Arguments):
    """Which elements of which key may go."""

    key: str = Field(min_length=1, max_length=1_000)
    type: CollectionType
    remove_from: RemoveFrom | None = None
    """list: head or tail; zset: lowest or highest scores."""
    keep: int = Field(default=0, ge=0)
    """So many stay: of a list or zset, those at the other end."""
    below_score: float | None = Field(default=None, allow_inf_nan=False)
    """zset, with lowest: only members with a smaller score."""
    match: str = Field(default="", max_length=1_000)
    """hash, set: a glob for the fields or members that go, `session:2023*`."""
    max_elements: int = Field(default=10_000_000, ge=1, le=100_000_000)

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.type in ("list", "zset"):
            if self.match or self.remove_from is None or ENDS[self.remove_from] != self.type:
                raise ValueError(f"remove_from must name an end of a {self.type}")
            if self.below_score is not None and self.remove_from != "lowest":
                raise ValueError("below_score goes with remove_from lowest")
            if not self.keep and self.below_score is None:
                raise ValueError("keep is needed: how many stay")
        elif not self.match or self.remove_from is not None or self.below_score is not None:
            raise ValueError(f"match is needed: which elements of the {self.type} go")
        return self

    @property
    def raw_key(self) -> bytes:
        """The key, as the server has it."""
        return self.key.encode()


class TrimCollection(Remedy[TrimCollectionArguments]):
    """Read a page, keep it in the backup, remove exactly that page; again."""

    kind: ClassVar[str] = "trim_collection"
    risk: ClassVar[Risk] = "R3"
    args = TrimCollectionArguments
    needs: ClassVar[frozenset[Need]] = frozenset({"backups"})

    async def preview(self, connection: Connection, args: TrimCollectionArguments) -> Preview:
        """How many elements and bytes at the most, and how they come back."""
        length = await length_of(connection, args.raw_key, args.type)
        usage = await connection.execute("MEMORY", "USAGE", args.raw_key)
        most = _most(length, args)
        key, counted = printable(args.key), not (args.match or args.below_score is not None)
        about = "about" if counted else "at most about"
        freed = (
            f", {about} {sized(usage * most / length)} of {sized(usage)}"
            if isinstance(usage, int) and length
            else ""
        )
        return Preview(
            title=f"Remove {_rule(args)} of the {args.type} {key}",
            commands=_commands(args),
            predicted_effect=f"{'About' if counted else 'At most'} {most:,} of {length:,} elements "
            f"go{freed}. What is written meanwhile stays. The writer goes on: bound it there.",
            verification="The elements are gone",
            rollback="all of them are given back from the backup, where nobody has written the "
            "same since; needs the room in memory again. "
            + (
                "Elements that others push to the same end meanwhile will lie further in"
                if args.type == "list"
                else "Fields keep their own expiry"
            ),
            blast_radius=f"at most {most:,} elements of {key}; {CANARY} first, then at most "
            f"{MOST:,} at a time, each page in the backup before it is removed. Stops when others "
            "take from the same end, on request, when the target slows down, and after "
            f"{LONGEST_SECONDS:.0f} s",
            never_touches=f"elements that the rule does not name, other keys, the expiry of {key}",
        )

    async def preconditions(
        self, connection: Connection, args: TrimCollectionArguments
    ) -> list[Check]:
        """A primary, that type still, and something to remove."""
        vitals = await read_vitals(connection)
        kind = await connection.execute("TYPE", args.raw_key)
        checks = [
            is_primary(vitals),
            Check(
                text=f"The key is a {args.type}",
                holds=kind == args.type.encode(),
                because=printable(kind) if isinstance(kind, bytes) else "unknown",
            ),
        ]
        if kind != args.type.encode():
            return checks
        length = await length_of(connection, args.raw_key, args.type)
        return [
            *checks,
            Check(
                text="It has more elements than are to stay",
                holds=length > args.keep,
                because=f"{length:,}",
            ),
        ]

    async def capture(
        self, connection: Connection, args: TrimCollectionArguments
    ) -> dict[str, Any]:
        """Length, bytes and expiry. The elements go into the backup, page by page."""
        length = await length_of(connection, args.raw_key, args.type)
        usage = await connection.execute("MEMORY", "USAGE", args.raw_key)
        left = await connection.execute("PTTL", args.raw_key)
        now = milliseconds(await connection.execute("TIME"))
        return {
            "length": length,
            "bytes": usage if isinstance(usage, int) else None,
            "expires_at_ms": now + left if isinstance(left, int) and left > 0 else None,
            "round_trip_seconds": await round_trip_seconds(connection),
        }

    async def apply(
        self,
        connection: Connection,
        args: TrimCollectionArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """A canary, then page by page: kept first, then removed."""
        copy = await open_copy(operation, args.raw_key)
        part = _part(connection, args)
        pace = Pace(connection, captured["round_trip_seconds"], operation)
        done: dict[str, Any] = {"elements_removed": 0, "pages": 0, "stopped_because": ""}
        done |= {"length_after": captured["length"], "under_way": True}
        try:
            while not part.finished and not done["stopped_because"]:
                count = _count(args, captured, done)
                if count < 1:
                    break
                await _take(part, copy, count, done)
                done["length_after"] = await length_of(connection, args.raw_key, args.type)
                if not done["stopped_because"]:
                    done["stopped_because"] = await pace.next(done)
        finally:
            backup = await copy.close()
        return done | {"under_way": False, "backup": backup}

    async def verify(
        self, connection: Connection, args: TrimCollectionArguments, captured: dict[str, Any]
    ) -> Verification:
        """As many as the rule names are gone."""
        length = await length_of(connection, args.raw_key, args.type)
        done = captured.get("done", {})
        removed, stopped = done.get("elements_removed"), done.get("stopped_because", "")
        measured = {"elements": length, "elements_before": captured["length"]}
        measured["elements_removed"] = removed
        if removed is None:
            because = "how far the interrupted run came is not known"
            return Verification(helped=None, because=because, measured=measured)
        because = f"{removed:,} elements removed, {length:,} are there"
        if stopped:
            because += f"; stopped: {stopped}"
        if not removed:
            return Verification(helped=False, because=because, measured=measured)
        enough = not stopped or removed >= _most(captured["length"], args) / 2
        # A part of what the owner wants gone is no damage: to go on, or back, is for people.
        return Verification(helped=True if enough else None, because=because, measured=measured)

    async def undo(
        self,
        connection: Connection,
        args: TrimCollectionArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """From the backup, in pages."""
        done = captured.get("done", {})
        if args.type == "list":
            given = await ListReturn(
                connection,
                operation,
                args.raw_key,
                "tail" if args.remove_from == "tail" else "head",
                noted=done.get("pages", 0),
                under_way=done.get("under_way", True),
                length_after=done.get("length_after", captured["length"]),
            ).run()
        else:
            given = await give_back_members(connection, operation)
        expires_at = captured["expires_at_ms"]
        # With its last element, the key and its expiry had gone.
        if expires_at and await connection.execute("PTTL", args.raw_key) == -1:
            await connection.execute("PEXPIREAT", args.raw_key, expires_at)
        return {"elements_put_back": given}

    def disturbs(self, args: TrimCollectionArguments) -> frozenset[str]:
        """Its pages count with everybody's calls."""
        return OWN_PAGES

    async def verify_undo(
        self, connection: Connection, args: TrimCollectionArguments, captured: dict[str, Any]
    ) -> Verification:
        """As many elements as before, or more where the writer went on."""
        length = await length_of(connection, args.raw_key, args.type)
        before = captured["length"]
        because = f"{before:,} elements before, {length:,} again"
        measured = {"elements": length, "elements_before": before}
        # Where others take elements too, fewer are no proof of one that did not come back.
        back = captured.get("undone", {}).get("elements_put_back", 0)
        whole = back >= captured.get("done", {}).get("elements_removed", before)
        helped = True if length >= before or whole else None
        return Verification(helped=helped, because=because, measured=measured)

    async def settle(
        self, connection: Connection, args: TrimCollectionArguments, captured: dict[str, Any]
    ) -> Literal["applied", "not_applied", "unknown"]:
        """Progress that was noted, else the length: the canary is all that can be in doubt."""
        if captured.get("done", {}).get("elements_removed"):
            return "applied"
        length = await length_of(connection, args.raw_key, args.type)
        if length == captured["length"]:
            return "not_applied"
        return "applied" if length < captured["length"] else "unknown"


async def _take(part: Part, copy: Copy, count: int, done: dict[str, Any]) -> None:
    """One page: read, kept, removed."""
    commands = await part.read(count)
    if not commands:
        return
    await copy.keep(commands)
    removed = await part.remove()
    if removed.instead is not None:
        await copy.keep(removed.instead)
        done["stopped_because"] = OTHER_TAKER
    done["elements_removed"] += removed.count
    done["pages"] += 1 if removed.count else 0


def _count(args: TrimCollectionArguments, captured: dict[str, Any], done: dict[str, Any]) -> int:
    """How many to remove next; none: it is done."""
    length, now, removed = captured["length"], done["length_after"], done["elements_removed"]
    if args.match:
        left = args.max_elements - removed
    else:  # what is added meanwhile is not among those that were promised to go
        left = min(_most(length, args) - removed, now - args.keep)
    mean = (captured["bytes"] or 0) / max(1, length)
    fits = max(1, min(MOST, int(PAGE_BYTES / mean))) if mean else MOST
    return int(min(left, fits if done["pages"] else CANARY))


def _part(connection: Connection, args: TrimCollectionArguments) -> Part:
    match args.remove_from:
        case "head" | "tail" as end:
            return ListEnd(connection, args.raw_key, end)
        case "lowest" | "highest" as end:
            return ZsetEnd(connection, args.raw_key, end, args.below_score)
        case None:
            return Matching(connection, args.raw_key, args.match.encode(), args.type == "hash")


def _most(length: int, args: TrimCollectionArguments) -> int:
    return min(max(0, length - args.keep), args.max_elements)


def _rule(args: TrimCollectionArguments) -> str:
    if args.match:
        return f"what matches {printable(args.match)}"
    below = f"below the score {args.below_score:g} " if args.below_score is not None else ""
    which = f"from the {args.remove_from}"
    if args.type == "zset":
        which = f"with the {args.remove_from} scores"
    down_to = f", down to {args.keep:,}," if args.keep else ""
    return f"elements {below}{which}{down_to}"


def _commands(args: TrimCollectionArguments) -> list[list[str]]:
    key = printable(args.key)
    if args.type == "list":
        stretch = [f"-{MOST}", "-1"] if args.remove_from == "tail" else ["0", str(MOST - 1)]
        pop = "RPOP" if args.remove_from == "tail" else "LPOP"
        return [["LRANGE", key, *stretch], [pop, key, f"<at most {MOST}>"]]
    if args.type == "zset":
        stretch = ["0", str(MOST - 1)] if args.remove_from == "lowest" else [f"-{MOST}", "-1"]
        return [["ZRANGE", key, *stretch, "WITHSCORES"], ["ZREM", key, "<each of those>"]]
    scan, remove = ("HSCAN", "HDEL") if args.type == "hash" else ("SSCAN", "SREM")
    scanning = [scan, key, "<cursor>", "MATCH", printable(args.match), "COUNT", f"<at most {MOST}>"]
    reading = [["HMGET", key, "<each of those>"]] if args.type == "hash" else []
    return [scanning, *reading, [remove, key, "<each of those>"]]
