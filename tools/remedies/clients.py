"""Disconnect one client that makes the server hold too much."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from tools.catalogue import Arguments
from tools.connection import CommandFailure, Connection
from tools.remedies.operation import ALONE, Operation
from tools.remedies.remedy import Check, Preview, Remedy, Risk, Verification
from tools.remedies.vitals import ClientLine, read_clients, read_vitals, sized

DISCONNECTING = frozenset({"connected_clients", "connections", "commands"})
"""Metrics that a disconnected client takes along."""
OF_A_REPLICA = frozenset({"replicas_online", "replica_lag_bytes", "full_syncs"})


class KillClientArguments(Arguments):
    """Exactly one client, as it was seen."""

    id: int = Field(gt=0)
    name: str = Field(default="", max_length=250)
    address: str = Field(max_length=250)
    type: Literal["normal", "pubsub", "replica", "monitor"]
    min_buffer_bytes: int = Field(default=0, ge=0)
    """It still makes the server hold at least this much; 0 where the buffer is not the point."""


class KillClient(Remedy[KillClientArguments]):
    """CLIENT KILL ID of one client. Never by type, user or address: those hit bystanders."""

    kind: ClassVar[str] = "kill_client"
    risk: ClassVar[Risk] = "R2"
    args = KillClientArguments

    async def preview(self, connection: Connection, args: KillClientArguments) -> Preview:
        """What the client holds now, and that its undelivered messages are lost."""
        found = await read_clients(connection, only=args.id)
        held = sized(found[0].buffered) if found else "nothing: it is gone"
        return Preview(
            title=f"Disconnect client {args.name or args.address} (id {args.id})",
            commands=[list(map(str, _command(args)))],
            predicted_effect=f"The server frees what it holds for this client: {held}. Messages "
            "and replies it has not read are lost; a client that reconnects and still does not "
            "read fills its buffer again.",
            verification=f"Client {args.id} is gone, and no client of the same name holds "
            f"{sized(args.min_buffer_bytes)} or more again",
            rollback="none needed: the client reconnects by itself; undelivered messages are lost",
            never_touches="keys, configuration, any other client",
        )

    async def preconditions(self, connection: Connection, args: KillClientArguments) -> list[Check]:
        """The id still is the same client, and it still holds too much."""
        own = await connection.execute("CLIENT", "ID")
        text = "The id is still the same client"
        found = await read_clients(connection, only=args.id)
        if not found:
            return [Check(text=text, holds=False, because=f"client {args.id} is gone")]
        client = found[0]
        same = (client.name, client.address, client.type) == (args.name, args.address, args.type)
        return [
            Check(
                text=text,
                holds=same,
                because=f"{client.type} client {client.label} from {client.address}",
            ),
            Check(
                text=f"The server holds at least {sized(args.min_buffer_bytes)} for it",
                holds=client.buffered >= args.min_buffer_bytes,
                because=f"now {sized(client.buffered)}",
            ),
            Check(
                text="It is not our own connection",
                holds=own != args.id,
                because=f"ours is {own!s}",
            ),
        ]

    async def capture(self, connection: Connection, args: KillClientArguments) -> dict[str, Any]:
        """What it holds, and memory in use."""
        found = await read_clients(connection, only=args.id)
        held = found[0].buffered if found else 0
        return {"held_bytes": held, "used_memory": (await read_vitals(connection)).used}

    async def apply(
        self,
        connection: Connection,
        args: KillClientArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """One CLIENT KILL."""
        killed = await connection.execute(*_command(args))
        if killed != 1:
            tried = " ".join(map(str, _command(args)))
            raise CommandFailure("error", tried, "no such client: it was gone already")
        return {"killed": killed}

    async def verify(
        self, connection: Connection, args: KillClientArguments, captured: dict[str, Any]
    ) -> Verification:
        """It is gone, and its successor does not fill up again."""
        clients = await read_clients(connection)
        used = (await read_vitals(connection)).used
        measured = {"used_memory": used, "held_before": captured["held_bytes"]}
        if any(client.id == args.id for client in clients):
            because = f"client {args.id} is still connected"
            return Verification(helped=False, because=because, measured=measured)
        again = [client for client in clients if _successor(client, args)]
        if again:
            held = sized(max(client.buffered for client in again))
            because = f"{args.name} is back and the server holds {held} for it again"
            return Verification(helped=False, because=because, measured=measured)
        because = f"client {args.id} is gone; the server held {sized(captured['held_bytes'])}"
        return Verification(helped=True, because=because, measured=measured)

    def disturbs(self, args: KillClientArguments) -> frozenset[str]:
        """A client less, whatever it sent, and its coming back; of a replica, its full sync."""
        return DISCONNECTING | (OF_A_REPLICA if args.type == "replica" else frozenset())

    async def undo(
        self,
        connection: Connection,
        args: KillClientArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """Nothing to put back: a client reconnects by itself."""
        return {"nothing_to_put_back": "a disconnected client reconnects by itself"}

    async def settle(
        self, connection: Connection, args: KillClientArguments, captured: dict[str, Any]
    ) -> Literal["applied", "not_applied", "unknown"]:
        """Ids are never given twice, so a missing one was disconnected."""
        return "not_applied" if await read_clients(connection, only=args.id) else "applied"


def _command(args: KillClientArguments) -> tuple[str, str, str, int]:
    return ("CLIENT", "KILL", "ID", args.id)


def _successor(client: ClientLine, args: KillClientArguments) -> bool:
    same = bool(args.name) and client.name == args.name and client.type == args.type
    return same and args.min_buffer_bytes > 0 and client.buffered >= args.min_buffer_bytes
