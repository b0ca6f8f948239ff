"""Give an expiry to the keys of one prefix that have none, gently and reversibly."""

import time
from typing import Any, ClassVar, Literal

from pydantic import Field

from tools.catalogue import Arguments
from tools.connection import CommandFailure, Connection
from tools.reading import printable
from tools.remedies.deadlines import Deadlines, milliseconds
from tools.remedies.guarded_persist import persist
from tools.remedies.operation import ALONE, Operation
from tools.remedies.pace import LONGEST_SECONDS, PAUSE_SHARE, Pace, ones
from tools.remedies.prefix_scan import escaped, matching_pages, survey
from tools.remedies.remedy import Check, Preview, Remedy, Risk, Verification
from tools.remedies.slots import have_moved, slots_held
from tools.remedies.vitals import Vitals, is_primary, read_vitals, round_trip_seconds, sized

SHORTEST_TTL = 60
CANARY = 10
"""Keys of the first batch; looked at again before the rest is touched."""
EXPIRY_BYTES = 64
"""What an expiry itself takes, at the most: 16 (Valkey 9.1) to 46 (Redis 7.0) were measured."""


class ExpirePrefixArguments(Arguments):
    """Which keys, and when they are to expire."""

    prefix: str = Field(min_length=2, max_length=200)
    """As it is, glob characters included: `session:`, without a star."""
    ttl_seconds: int = Field(ge=SHORTEST_TTL, le=366 * 86_400)
    jitter_share: float = Field(default=0.2, ge=0, le=1)
    """Expiry is spread over this share of the TTL on top of it, so that it is no wave."""
    batch_size: int = Field(default=500, ge=10, le=1000)
    max_keys: int = Field(default=10_000_000, ge=1, le=10_000_000)
    evictable: bool = False
    """The policy was volatile-* when this was proposed: an expiry lets it evict the keys."""


class ExpirePrefix(Remedy[ExpirePrefixArguments]):
    """PEXPIREAT … NX over SCAN MATCH. Keys that have an expiry keep it."""

    kind: ClassVar[str] = "expire_prefix"
    risk: ClassVar[Risk] = "R3"
    args = ExpirePrefixArguments

    async def preview(self, connection: Connection, args: ExpirePrefixArguments) -> Preview:
        """How many keys and bytes, and when they go."""
        seen = await survey(connection, args.prefix)
        vitals = await read_vitals(connection)
        policy = _policy(vitals)
        spread = int(args.ttl_seconds * args.jitter_share)
        name = printable(args.prefix)
        keys = min(seen.keys_without_ttl, args.max_keys)
        size = int(keys * (seen.mean_bytes or 0))
        pattern = escaped(args.prefix).decode("utf-8", "backslashreplace") + "*"
        when = f"server time + {args.ttl_seconds} s + 0..{spread} s by key"
        of_memory = f" (about {sized(size)})" if seen.mean_bytes else ""
        return Preview(
            title=f"Give keys of {name}* without expiry a TTL of {spoken(args.ttl_seconds)}",
            commands=[
                ["SCAN", "<cursor>", "MATCH", printable(pattern), "COUNT", str(args.batch_size)],
                ["PEXPIREAT", f"<each key of {name}* without expiry>", f"<{when}>", "NX"],
            ],
            predicted_effect=f"About {keys:,} keys{of_memory} expire between "
            f"{spoken(args.ttl_seconds)} and {spoken(args.ttl_seconds + spread)} from now, "
            f"about {keys / max(spread, 1):,.0f} keys/s. {_before_that(policy)} "
            f"{_takes(vitals, keys)} Keys that the "
            "application writes without expiry later are not covered: fix the writer too.",
            verification=f"The share of {name}* without expiry falls to half or less "
            f"(now {seen.without_ttl_share:.0%} of those seen)",
            rollback="PERSIST of exactly the keys that carry the expiry given here; possible "
            f"until the first of them expires, {spoken(args.ttl_seconds)} from now"
            + ("; a key that was evicted is gone" if _evicts_expiring(policy) else ""),
            blast_radius=f"at most {args.max_keys:,} keys of {name}*; "
            f"{CANARY} keys first, then {args.batch_size} at a time; stops on request, when the "
            f"target slows down, at its maxmemory, and after {LONGEST_SECONDS:.0f} s",
            never_touches=f"keys that have an expiry, keys that do not start with {name}, other "
            "databases, values"
            + ("" if seen.has_nx else ". Redis before 7.0 checks and sets in two commands"),
        )

    async def preconditions(
        self, connection: Connection, args: ExpirePrefixArguments
    ) -> list[Check]:
        """A primary, with such keys, no more than may be touched, evicted no sooner than known."""
        vitals = await read_vitals(connection)
        policy = _policy(vitals)
        seen = await survey(connection, args.prefix)
        found = seen.keys_without_ttl > 0
        return [
            is_primary(vitals),
            Check(
                text=f"There are keys of {printable(args.prefix)}* without expiry",
                holds=True if found else (False if seen.complete else None),
                because=f"about {seen.keys_without_ttl:,}, from {seen.scanned:,} keys looked at",
            ),
            Check(
                text=f"They are at most {args.max_keys:,}",
                holds=seen.keys_without_ttl <= args.max_keys,
                because=f"about {seen.keys_without_ttl:,}",
            ),
            Check(
                text="An expiry lets the eviction policy remove them only if that was known",
                holds=None if not policy else args.evictable or not _evicts_expiring(policy),
                because=f"maxmemory-policy: {policy or 'not reported'}",
            ),
        ]

    async def capture(self, connection: Connection, args: ExpirePrefixArguments) -> dict[str, Any]:
        """The deadlines (the undo needs nothing else) and the shares from before."""
        now = milliseconds(await connection.execute("TIME"))
        deadlines = Deadlines(
            base_ms=now + args.ttl_seconds * 1000,
            jitter_ms=int(args.ttl_seconds * args.jitter_share * 1000),
            salt=str(now),  # it is shown with the outcome: no name in it
        )
        seen = await survey(connection, args.prefix)
        return {
            "deadlines": deadlines.to_json(),
            "without_ttl_share": seen.without_ttl_share,
            "keys_without_ttl": seen.keys_without_ttl,
            "full_before": _is_full(await read_vitals(connection)),
            "slots": await slots_held(connection),
            "round_trip_seconds": await round_trip_seconds(connection),
        }

    async def apply(
        self,
        connection: Connection,
        args: ExpirePrefixArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """Page by page; a canary first; stops when the target slows down."""
        deadlines = Deadlines(**captured["deadlines"])
        has_nx = (await read_vitals(connection)).at_least(7)
        done: dict[str, Any] = {"keys_touched": 0, "batches": 0, "stopped_because": ""}
        pace = Pace(connection, captured["round_trip_seconds"], operation)
        async for page in matching_pages(connection, args.prefix, args.batch_size):
            if not page:
                continue
            keys = page[: args.max_keys - done["keys_touched"]]
            if done["batches"] == 0:
                canary = keys[:CANARY]
                await _expire(connection, canary, deadlines, done, operation, has_nx=has_nx)
                await _must_carry(connection, canary, deadlines, done["keys_touched"])
                keys = keys[CANARY:]
            await _expire(connection, keys, deadlines, done, operation, has_nx=has_nx)
            done["batches"] += 1
            if done["keys_touched"] >= args.max_keys:
                done["stopped_because"] = f"the limit of {args.max_keys:,} keys was reached"
                break
            stop = await pace.next(done)
            if not stop and not captured["full_before"] and _is_full(await read_vitals(connection)):
                stop = "maxmemory is reached, and expiries take memory: raise it first"
            if stop:
                done["stopped_because"] = stop
                break
        return done

    async def verify(
        self, connection: Connection, args: ExpirePrefixArguments, captured: dict[str, Any]
    ) -> Verification:
        """The share without expiry fell by what was promised."""
        seen = await survey(connection, args.prefix)
        before, after = captured["without_ttl_share"], seen.without_ttl_share
        done = captured.get("done", {})
        touched, stopped = done.get("keys_touched"), done.get("stopped_because", "")
        measured = {
            "without_ttl_share": after,
            "without_ttl_share_before": before,
            "keys_touched": touched,
        }
        if seen.matched == 0:
            because = "no key of the prefix was seen"
            return Verification(helped=None, because=because, measured=measured)
        because = f"share without expiry went from {before:.0%} to {after:.0%}"
        if touched is not None:
            because += f"; {touched:,} keys got one"
        if stopped:
            because += f" (of about {captured['keys_without_ttl']:,}: {stopped})"
        # A sample of a part says nothing of the rest where it is not known that all was visited.
        done_enough = not stopped or touched >= captured["keys_without_ttl"] / 2
        if touched is None and not seen.complete:
            because += " in a part of the keys; how far the interrupted run came is not known"
            done_enough = False
        last = Deadlines(**captured["deadlines"])
        now = milliseconds(await connection.execute("TIME"))
        return Verification(
            helped=after <= before / 2 and done_enough,
            because=because,
            measured=measured,
            effect_within_seconds=max(0, last.base_ms + last.jitter_ms - now) / 1000,
        )

    def disturbs(self, args: ExpirePrefixArguments) -> frozenset[str]:
        """Each expiry takes some memory; where the policy may evict such keys, that was known."""
        takes = frozenset({"pressure", "used_memory_rss"})
        return takes | (frozenset({"evicted_keys", "miss_share"}) if args.evictable else takes)

    async def undo(
        self,
        connection: Connection,
        args: ExpirePrefixArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """PERSIST the keys that carry exactly the expiry given here."""
        deadlines = Deadlines(**captured["deadlines"])
        touched = captured.get("done", {}).get("keys_touched")
        persisted = captured.get("undone", {}).get("keys_persisted", 0)
        async for page in matching_pages(connection, args.prefix, args.batch_size):
            started = time.monotonic()
            if not page:
                continue
            persisted += await persist(connection, page, deadlines)
            await operation.note({"keys_persisted": persisted})
            await connection.wait(PAUSE_SHARE * (time.monotonic() - started))
        too_late = milliseconds(await connection.execute("TIME")) > deadlines.base_ms
        if touched is None or persisted < touched:
            why = "the first expired before: those are gone" if too_late else ""
            if not why and await have_moved(connection, captured.get("slots", "")):
                why = "slots move between nodes: keys that did still have the expiry given here"
            if why:
                of_all = "" if touched is None else f" of {touched:,}"
                failed = f"{persisted:,}{of_all} keys kept; {why}"
                raise CommandFailure("error", f"PERSIST of {printable(args.prefix)}*", failed)
        return {"keys_persisted": persisted, "keys_touched": touched}

    async def settle(
        self, connection: Connection, args: ExpirePrefixArguments, captured: dict[str, Any]
    ) -> Literal["applied", "not_applied", "unknown"]:
        """One key with its deadline shows that it was under way; verification judges how far."""
        deadlines = Deadlines(**captured["deadlines"])
        started = time.monotonic()
        async for page in matching_pages(connection, args.prefix, args.batch_size):
            if page and await deadlines.carried_by(connection, page):
                return "applied"
            if time.monotonic() - started > LONGEST_SECONDS:
                return "unknown"
        return "not_applied"


def spoken(seconds: int) -> str:
    """A duration for people: `24 h`."""
    if seconds >= 2 * 86_400:
        return f"{seconds / 86_400:.1f} days"
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:.1f} h".replace(".0 h", " h")
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds} s"


def _is_full(vitals: Vitals) -> bool:
    return vitals.pressure is not None and vitals.pressure >= 1


def _takes(vitals: Vitals, keys: int) -> str:
    """PEXPIREAT is not refused at maxmemory: what comes after it is refused, or evicts."""
    takes, counted, limit = keys * EXPIRY_BYTES, vitals.counted, vitals.count("maxmemory")
    said = f"The expiries themselves take up to {sized(takes)}"
    if counted is not None and limit and counted < limit < counted + takes:
        said += f", and {sized(limit - counted)} are left below maxmemory: raise it first"
    return f"{said}."


def _policy(vitals: Vitals) -> str:
    return vitals.fields.get("maxmemory_policy", "")


def _evicts_expiring(policy: str) -> bool:
    return policy.startswith("volatile")


def _before_that(policy: str) -> str:
    if _evicts_expiring(policy):
        return f"{policy} may evict them at once, as soon as maxmemory is met."
    return "Nothing is freed before."


async def _expire(
    connection: Connection,
    keys: list[bytes],
    deadlines: Deadlines,
    done: dict[str, Any],
    operation: Operation,
    *,
    has_nx: bool,
) -> None:
    """Count in `done` how many got an expiry, also of a batch in part. Raises CommandFailure."""
    if not has_nx and keys:
        left = await connection.execute_many([("PTTL", key) for key in keys])
        keys = [key for key, ttl in zip(keys, left, strict=True) if ttl == -1]
    option = ("NX",) if has_nx else ()
    commands = [("PEXPIREAT", key, deadlines.of(key), *option) for key in keys]
    changed, failure = await ones(connection, commands)
    done["keys_touched"] += changed
    if failure is not None:
        await operation.note(done)
        raise failure


async def _must_carry(
    connection: Connection, keys: list[bytes], deadlines: Deadlines, touched: int
) -> None:
    """A few keys first, looked at again before any other is touched. Raises CommandFailure."""
    carry = len(await deadlines.carried_by(connection, keys))
    if carry < touched:
        raise CommandFailure(
            "error",
            "canary batch of PEXPIREAT",
            f"{touched} keys were given an expiry and {carry} carry it: stopped there",
        )
