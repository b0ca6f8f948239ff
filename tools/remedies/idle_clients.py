"""Disconnect what one leaking client left open, so that others get a connection again."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from tools.catalogue import Arguments
from tools.connection import CommandFailure, Connection, read_info
from tools.remedies.clients import DISCONNECTING
from tools.remedies.operation import ALONE, Operation
from tools.remedies.pace import Pace
from tools.remedies.remedy import Check, Preview, Remedy, Risk, Verification
from tools.remedies.vitals import ClientLine, read_clients, round_trip_seconds

MOST_IDS = 2_000
SHORTEST_IDLE = 5
"""Seconds without a command: a pool at work uses each of its connections more often."""
SCARCE = 0.8
"""Of maxclients in use: with more room than that, nobody is turned away and nothing is killed."""
BATCH = 50
"""Connections closed between two looks at who of the rest is still idle."""
SHOWN = 3


class KillIdleClientsArguments(Arguments):
    """The idle connections of one client, as they were seen."""

    name: str = Field(min_length=1, max_length=250)
    """The name they share; without a name, the address without its port."""
    ids: list[int] = Field(min_length=2, max_length=MOST_IDS)
    min_idle_seconds: int = Field(ge=SHORTEST_IDLE, le=86_400)


class KillIdleClients(Remedy[KillIdleClientsArguments]):
    """CLIENT KILL ID of each that still has that name and still does nothing. Never by filter."""

    kind: ClassVar[str] = "kill_idle_clients"
    risk: ClassVar[Risk] = "R2"
    args = KillIdleClientsArguments

    async def preview(self, connection: Connection, args: KillIdleClientsArguments) -> Preview:
        """How many would go, and how many connections are free before and after."""
        idle = _idle(await read_clients(connection), args)
        used, limit = await _slots(connection)
        ids = ", ".join(map(str, args.ids[:SHOWN])) + (" …" if len(args.ids) > SHOWN else "")
        free = "an unknown number" if limit is None else f"{limit - used + len(idle):,}"
        return Preview(
            title=f"Disconnect {len(idle):,} idle connections of {args.name}",
            commands=[["CLIENT", "KILL", "ID", f"<each of {len(args.ids)}: {ids}>"]],
            predicted_effect=f"{used:,} connections become {used - len(idle):,}; {free} are free "
            f"then (maxclients {limit if limit is not None else 'not reported'}). Those had sent "
            f"nothing for {args.min_idle_seconds} s and waited for nothing. A client that leaks "
            "goes on leaking until it is fixed.",
            verification="They are gone, no connection is refused any more, and the name has not "
            "as many idle ones again",
            rollback="none needed: a pool opens a connection again when it needs one",
            never_touches="connections in use, in MULTI, blocked, subscribed or with replies "
            "unread; other names; replicas; keys; configuration",
        )

    async def preconditions(
        self, connection: Connection, args: KillIdleClientsArguments
    ) -> list[Check]:
        """Connections are scarce, most of these still are idle, and ours is not among them."""
        clients = await read_clients(connection)
        used, limit = await _slots(connection)
        idle = _idle(clients, args)
        own = await connection.execute("CLIENT", "ID")
        return [
            Check(
                text=f"At least {SCARCE:.0%} of maxclients are connected",
                holds=None if limit is None else used >= SCARCE * limit,
                because=f"{used:,} of {'an unknown limit' if limit is None else f'{limit:,}'}",
            ),
            Check(
                text=f"At least half of them are still idle for {args.min_idle_seconds} s",
                holds=2 * len(idle) >= len(args.ids),
                because=f"{len(idle):,} of {len(args.ids):,}",
            ),
            Check(
                text="Our own connection is not among them",
                holds=own not in args.ids,
                because=f"ours is {own!s}",
            ),
        ]

    async def capture(
        self, connection: Connection, args: KillIdleClientsArguments
    ) -> dict[str, Any]:
        """Connections in use, and how many were refused so far."""
        used, limit = await _slots(connection)
        clients = await read_clients(connection)
        idle, there = len(_idle(clients, args)), _still_there(clients, args)
        counts = {"connected": used, "maxclients": limit, "idle": idle, "there": there}
        usual = await round_trip_seconds(connection)
        return counts | await _refused(connection) | {"round_trip_seconds": usual}

    async def apply(
        self,
        connection: Connection,
        args: KillIdleClientsArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """Each id that still fits, by id: a client that came back to life is left alone."""
        done: dict[str, Any] = {"killed": 0, "stopped_because": ""}
        pace = Pace(connection, captured["round_trip_seconds"], operation)
        tried: set[int] = set()
        while batch := [
            client
            for client in _idle(await read_clients(connection), args)
            if client.id not in tried
        ][:BATCH]:
            tried |= {client.id for client in batch}
            await _kill(connection, batch, done, operation)
            if stop := await pace.next(done):
                done["stopped_because"] = stop
                break
        return done | await _refused(connection)

    async def verify(
        self, connection: Connection, args: KillIdleClientsArguments, captured: dict[str, Any]
    ) -> Verification:
        """They are gone, nobody is refused, and the leak has not filled up again."""
        clients = await read_clients(connection)
        left = len(_idle(clients, args))
        again = [one for one in clients if _named(one, args) and one.id not in set(args.ids)]
        used, _ = await _slots(connection)
        refused = (await _refused(connection))["refused"]
        done = captured.get("done", {})
        rose = refused - done.get("refused", captured["refused"])
        measured = {"connected": used, "refused_since": rose, "left": left, "again": len(again)}
        if left:
            stopped = done.get("stopped_because")
            because = f"{left:,} of them are still connected" + (f": {stopped}" if stopped else "")
            return Verification(helped=False, because=because, measured=measured)
        if rose or 2 * len(again) > len(args.ids):
            because = f"{rose:,} connections refused since, {len(again):,} opened again"
            return Verification(helped=False, because=because, measured=measured)
        because = f"{captured['connected']:,} connections became {used:,}; none was refused since"
        return Verification(helped=True, because=because, measured=measured)

    def disturbs(self, args: KillIdleClientsArguments) -> frozenset[str]:
        """Clients less, and those of them that come back."""
        return DISCONNECTING

    async def undo(
        self,
        connection: Connection,
        args: KillIdleClientsArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """Nothing to put back."""
        return {"nothing_to_put_back": "a pool opens a connection again when it needs one"}

    async def settle(
        self, connection: Connection, args: KillIdleClientsArguments, captured: dict[str, Any]
    ) -> Literal["applied", "not_applied", "unknown"]:
        """By how many of the ids are left; ids are never given twice."""
        left = _still_there(await read_clients(connection), args)
        # Some may be left alone, and some leave by themselves: a part is ours only if noted.
        if left <= captured["there"] - captured["idle"] or captured.get("done", {}).get("killed"):
            return "applied"
        return "not_applied" if left >= captured["there"] else "unknown"


async def _kill(
    connection: Connection, batch: list[ClientLine], done: dict[str, Any], operation: Operation
) -> None:
    """Count in `done` how many went, also of a batch in part. Raises CommandFailure."""
    kills = [("CLIENT", "KILL", "ID", client.id) for client in batch]
    for reply in await connection.execute_many(kills):
        if not isinstance(reply, CommandFailure):
            done["killed"] += 1
        elif "no such client" not in reply.failed.lower():
            await operation.note(done)
            raise reply


def _still_there(clients: list[ClientLine], args: KillIdleClientsArguments) -> int:
    return len({client.id for client in clients} & set(args.ids))


def _named(client: ClientLine, args: KillIdleClientsArguments) -> bool:
    return client.type == "normal" and args.name == pool_of(client)


def pool_of(client: ClientLine) -> str:
    """What connections of one pool have in common: their name, else their host."""
    return client.name or client.address.rpartition(":")[0] or client.address


def _idle(clients: list[ClientLine], args: KillIdleClientsArguments) -> list[ClientLine]:
    wanted = set(args.ids)
    return [
        client
        for client in clients
        if client.id in wanted
        and _named(client, args)
        and client.quiet
        and client.idle_seconds >= args.min_idle_seconds
    ]


async def _slots(connection: Connection) -> tuple[int, int | None]:
    """Connections in use, and how many there may be (None: not reported)."""
    info = await read_info(connection, "clients")
    limit = info.get("maxclients")
    if limit is None:  # INFO has it since 7.0
        reply = await connection.execute("CONFIG", "GET", "maxclients")
        found = reply[1] if isinstance(reply, list) and len(reply) > 1 else None
        limit = found.decode("ascii", "replace") if isinstance(found, bytes) else None
    known = limit is not None and limit.isdecimal()
    return int(info["connected_clients"]), int(limit) if known and limit is not None else None


async def _refused(connection: Connection) -> dict[str, int]:
    info = await read_info(connection, "stats")
    return {"refused": int(info.get("rejected_connections", 0))}
