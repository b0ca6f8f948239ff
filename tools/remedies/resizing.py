"""Resize the instance through the user's own hook.

Whoever carries it out is not believed: the server's own new limit decides.
"""

import asyncio
import time
from typing import Any, ClassVar, Literal

from pydantic import Field

from tools.catalogue import Arguments
from tools.connection import CommandFailure, Connection, read_info
from tools.remedies.operation import ALONE, Operation
from tools.remedies.remedy import Check, Need, Preview, Remedy, Risk, Verification
from tools.remedies.vitals import Vitals, is_primary, read_vitals, sized

FRESH_SECONDS = 900
"""A file that was saved longer ago than this loses too much in a restart."""
LAG_SECONDS = 10
KEYS_LEFT = 0.9
"""Of the keys before: fewer, and it may be another server, or one that lost its data."""
ASK_AGAIN_SECONDS = 2.0
USED_OF_OLD = 0.9
"""More of the old limit in use, and going back to it would evict or refuse at once."""
LimitKind = Literal["maxmemory", "machine"]


class ResizeInstanceArguments(Arguments):
    """A sizing (`tools/resize.py`), and what the hook is able to do."""

    needed_bytes: int = Field(gt=0)
    recommended_maxmemory: int = Field(gt=0)
    current_limit: int = Field(gt=0)
    """As the server had it when this was proposed."""
    limit_is: LimitKind
    """What of the server shows its limit: maxmemory, or without one the machine's memory."""
    sizes: list[dict[str, Any]] = Field(default_factory=list, max_length=20)
    """The smallest that fits, one a provider: provider, name, memory_bytes."""
    arithmetic: list[str] = Field(default_factory=list, max_length=80)
    hook: str = Field(max_length=120)
    """What is called, without secrets."""
    wait_seconds: float = Field(gt=0, le=86_400)
    """From the order until the server shows its new limit."""
    keeps_data: bool = False
    """The hook is configured as one that keeps the data whatever the server itself could do."""
    undoable: bool = False
    """The hook may be asked for the old size, too."""

    @property
    def wanted(self) -> int:
        """Bytes that the server's limit must show."""
        return self.recommended_maxmemory if self.limit_is == "maxmemory" else self.needed_bytes


class ResizeInstance(Remedy[ResizeInstanceArguments]):
    """One order through the hook, ever; then the server is watched."""

    kind: ClassVar[str] = "resize_instance"
    risk: ClassVar[Risk] = "R4"
    args = ResizeInstanceArguments
    needs: ClassVar[frozenset[Need]] = frozenset({"resize_hook"})
    restarts: ClassVar[bool] = True

    async def preview(self, connection: Connection, args: ResizeInstanceArguments) -> Preview:
        """The order, its arithmetic, and what a restart disturbs."""
        vitals = await read_vitals(connection)
        clients = Vitals(await read_info(connection, "clients")).count("connected_clients")
        many = "all clients" if clients is None else f"{clients:,} clients"
        minutes = f"{args.wait_seconds / 60:.0f} min"
        undo = (
            f"the old size is ordered through the same {args.hook}, if what is in use fits it"
            if args.undoable
            else "none from here: the hook is not configured to order the old size; a person does"
        )
        return Preview(
            title=f"Resize the instance to {sized(args.needed_bytes)} through its {args.hook} "
            f"(limit now {sized(args.current_limit)})",
            commands=[],
            predicted_effect=f"One order for {sized(args.needed_bytes)} with maxmemory "
            f"{sized(args.recommended_maxmemory)}. The server restarts or fails over: {many} "
            "reconnect.",
            verification=f"within {minutes} the server itself shows a limit of "
            f"{sized(args.wanted)} or more ({args.limit_is}), with its keys; what the hook "
            "answers does not count",
            rollback=undo,
            never_touches="keys; no command is sent to the server",
            blast_radius=f"{many} lose their connection, once or twice, for as long as a restart "
            f"or failover takes; {_durability(vitals).because}. Ordered once, never again: if "
            f"the limit does not show within {minutes}, a person is called.",
            artefact="\n".join(args.arithmetic),
        )

    async def preconditions(
        self, connection: Connection, args: ResizeInstanceArguments
    ) -> list[Check]:
        """The limit is as it was, this is the primary, and its data outlives a restart."""
        vitals = await read_vitals(connection)
        limit = _limit(vitals, args.limit_is)
        survives = _durability(vitals)
        if args.keeps_data:
            survives = Check(
                text=survives.text,
                holds=True,
                because="the hook is configured as one that keeps the data; "
                f"by itself: {survives.because}",
            )
        return [
            Check(
                text="Nobody resized it since this was proposed",
                holds=None if limit is None else limit == args.current_limit,
                because=f"the limit is {_shown(limit)}, then {sized(args.current_limit)}",
            ),
            is_primary(vitals),
            survives,
        ]

    async def capture(
        self, connection: Connection, args: ResizeInstanceArguments
    ) -> dict[str, Any]:
        """The old limit, and by what the same data is known again."""
        vitals = await read_vitals(connection)
        return {
            "limit": _limit(vitals, args.limit_is),
            "keys": vitals.keys,
            "role": vitals.role,
            "replication_id": vitals.fields.get("master_replid"),
            "used_memory": vitals.used,
            "pressure": vitals.pressure,
        }

    async def apply(
        self,
        connection: Connection,
        args: ResizeInstanceArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """One call of the hook; noted before it is made, so that it is never made twice."""
        if operation.resize_hook is None:
            raise CommandFailure("not_allowed", "order the resize", "no resize_hook is configured")
        if stop := await operation.note({"hook": "called"}):
            await operation.note({"hook": "refused"})
            raise CommandFailure("refused", "order the resize", f"told to stop before it: {stop}")
        try:
            return await operation.resize_hook(_order(args, operation.id))
        except CommandFailure as failure:
            if failure.kind == "refused":
                await operation.note({"hook": "refused"})
            raise

    def patience(self, args: ResizeInstanceArguments) -> float:
        """As long as a resize takes here."""
        return args.wait_seconds

    def disturbs(self, args: ResizeInstanceArguments) -> frozenset[str]:
        """Everything that a restart does to clients, caches and counters."""
        return frozenset(
            {
                "round_trip_ms", "worst_round_trip_ms", "microseconds_per_call", "commands",
                "errors", "connected_clients", "connections", "miss_share", "used_memory_rss",
                "replicas_online", "replica_lag_bytes", "pressure",
            }
        )  # fmt: skip

    async def settle(
        self, connection: Connection, args: ResizeInstanceArguments, captured: dict[str, Any]
    ) -> Literal["applied", "not_applied", "unknown"]:
        """The server's own limit. Raises CommandFailure with what is missing, for a person."""
        vitals = await read_vitals(connection)
        limit, done = _limit(vitals, args.limit_is), captured.get("done") or {}
        if limit is not None and limit >= args.wanted:
            if (other := _other_data(captured, vitals)) is not None:
                raise CommandFailure("error", "see the same data after the resize", other)
            return "applied"
        # Nothing was noted before the hook is called: then it never was.
        if done.get("hook", "refused") == "refused" and limit == captured["limit"]:
            return "not_applied"
        raise CommandFailure(
            "error",
            "see the new limit on the server",
            f"it shows {_shown(limit)}, before it was {_shown(captured['limit'])}, ordered are "
            f"{sized(args.wanted)} or more",
        )

    async def verify(
        self, connection: Connection, args: ResizeInstanceArguments, captured: dict[str, Any]
    ) -> Verification:
        """The limit is there, and the data as well."""
        vitals = await read_vitals(connection)
        limit = _limit(vitals, args.limit_is)
        measured = {"limit": limit, "keys": vitals.keys, "pressure": vitals.pressure}
        because = f"the limit is {_shown(limit)} (before: {_shown(captured['limit'])}), "
        because += f"{vitals.keys:,} of {captured['keys']:,} keys are there"
        if limit is None or _other_data(captured, vitals) is not None:
            return Verification(helped=None, because=because, measured=measured)
        return Verification(helped=limit >= args.wanted, because=because, measured=measured)

    async def undo(
        self,
        connection: Connection,
        args: ResizeInstanceArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """Order the old size, where the hook can and what is in use fits it."""
        tried, old = "order the old size", captured["limit"]
        vitals = await read_vitals(connection)
        limit = _limit(vitals, args.limit_is)
        if limit is not None and old is not None and limit <= old:
            return {"limit": limit, "already": True}
        if not args.undoable or operation.resize_hook is None:
            raise CommandFailure(
                "refused", tried, "the hook is not configured to undo: a person has to order it"
            )
        if old is None or vitals.used is None or vitals.used > old * USED_OF_OLD:
            failed = f"{_shown(vitals.used)} are in use, too much for {_shown(old)}"
            raise CommandFailure("refused", tried, failed)
        order = _order(args, f"{operation.id}-undo") | {
            "order": "resize back", "memory_bytes": old, "maxmemory_bytes": old, "sizes": [],
        }  # fmt: skip
        answer = await operation.resize_hook(order)
        return answer | {"limit": await self._back_at(old, args, operation)}

    async def verify_undo(
        self, connection: Connection, args: ResizeInstanceArguments, captured: dict[str, Any]
    ) -> Verification:
        """The old limit, and the data."""
        vitals = await read_vitals(connection)
        limit, old = _limit(vitals, args.limit_is), captured["limit"]
        other = _other_data(captured, vitals)
        because = other or f"the limit is {_shown(limit)}, before it was {_shown(old)}"
        back = None if limit is None or old is None or other else limit <= old
        return Verification(helped=back, because=because, measured={"limit": limit})

    async def _back_at(
        self, old: int, args: ResizeInstanceArguments, operation: Operation
    ) -> int | None:
        """The old limit, seen on the server. Raises CommandFailure if it does not come."""
        until = time.monotonic() + args.wait_seconds
        seen: int | None = None
        while operation.reopen is not None:
            try:
                connection = await operation.reopen()
                try:
                    seen = _limit(await read_vitals(connection), args.limit_is)
                finally:
                    await connection.close()
            except CommandFailure:
                seen = None  # it restarts
            if seen is not None and seen <= old:
                return seen
            if time.monotonic() > until:
                break
            await asyncio.sleep(ASK_AGAIN_SECONDS)
        raise CommandFailure("timeout", "see the old limit", f"the server shows {_shown(seen)}")


def _order(args: ResizeInstanceArguments, key: str) -> dict[str, Any]:
    """What the hook is told. Bytes."""
    return {
        "version": 1,
        "order": "resize",
        "idempotency_key": key,
        "memory_bytes": args.needed_bytes,
        "maxmemory_bytes": args.recommended_maxmemory,
        "present_limit_bytes": args.current_limit,
        "sizes": args.sizes,
    }


def _limit(vitals: Vitals, kind: LimitKind) -> int | None:
    return vitals.count("maxmemory" if kind == "maxmemory" else "total_system_memory")


def _shown(size: int | None) -> str:
    return "not reported" if size is None else sized(size)


def _other_data(captured: dict[str, Any], vitals: Vitals) -> str | None:
    """Why this may be other data than before; None: it is the same, by its keys and history."""
    if vitals.role != captured["role"]:
        return f"its role is {vitals.role}, it was {captured['role']}"
    if vitals.keys < captured["keys"] * KEYS_LEFT:
        return f"{vitals.keys:,} keys are there, {captured['keys']:,} were"
    known = {vitals.fields.get("master_replid"), vitals.fields.get("master_replid2")}
    if not captured["keys"] and captured["replication_id"] not in known:
        return "it had no keys to be known by, and its replication id is another"
    return None


def _durability(vitals: Vitals) -> Check:
    """Does something outlive the process: a replica that follows, or a file?"""
    text = "Its data outlive a restart"
    if not vitals.keys:
        return Check(text=text, holds=True, because="there are no keys")
    replicas = sum(_follows(value) for name, value in vitals.fields.items() if _is_replica(name))
    if replicas:
        return Check(text=text, holds=True, because=f"{replicas} replicas are online and follow")
    if vitals.count("aof_enabled") == 1:
        status = vitals.fields.get("aof_last_write_status", "not reported")
        because = f"the append-only file is on, last write: {status}"
        return Check(text=text, holds=status == "ok", because=because)
    saved, took = vitals.count("rdb_last_save_time"), vitals.count("rdb_last_bgsave_time_sec")
    changes, status = vitals.count("rdb_changes_since_last_save"), "rdb_last_bgsave_status"
    if saved is None or changes is None:
        return Check(text=text, holds=None, because="what is saved is not reported")
    # Without any save, the time is that of the start.
    age = time.time() - saved if took is not None and took >= 0 else None
    fresh = age is not None and (age <= FRESH_SECONDS or not changes)
    when = "never" if age is None else f"{age / 60:.0f} min ago"
    return Check(
        text=text,
        holds=fresh and vitals.fields.get(status) == "ok",
        because=f"no replica follows, no append-only file; saved {when}, {changes:,} changes since",
    )


def _is_replica(name: str) -> bool:
    return name.startswith("slave") and name[5:].isdigit()


def _follows(line: str) -> bool:
    parts = dict(part.split("=", 1) for part in line.split(",") if "=" in part)
    lag = parts.get("lag", "")
    return parts.get("state") == "online" and lag.isdigit() and int(lag) <= LAG_SECONDS
