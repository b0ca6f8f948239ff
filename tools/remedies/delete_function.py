"""Delete one function library, kept in a backup first."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from tools.catalogue import Arguments
from tools.connection import CommandFailure, Connection, read_info
from tools.reading import printable
from tools.remedies.operation import ALONE, BackupDamaged, Operation, Saved
from tools.remedies.remedy import Check, Need, Preview, Remedy, Risk, Verification
from tools.remedies.restoring import restore
from tools.remedies.vitals import is_primary, read_vitals
from tools.replies import items, mapping, text

CALLS = ("fcall", "fcall_ro")
WATCH_SECONDS = 1.0


class DeleteFunctionArguments(Arguments):
    """Which library."""

    library: str = Field(pattern=r"^[A-Za-z0-9_]{1,128}$")
    """As FUNCTION LIST names it; the server allows no other characters."""
    owner_confirmed: bool = False
    """The owner says that nothing calls its functions any more."""


class DeleteFunction(Remedy[DeleteFunctionArguments]):
    """FUNCTION DELETE of one library. Redis 7.0 and later."""

    kind: ClassVar[str] = "delete_function"
    risk: ClassVar[Risk] = "R3"
    args = DeleteFunctionArguments
    needs: ClassVar[frozenset[Need]] = frozenset({"backups"})

    async def preview(self, connection: Connection, args: DeleteFunctionArguments) -> Preview:
        """Which functions go."""
        names = await _functions(connection, args.library)
        shown = ", ".join(names[:10]) if names else "none"
        return Preview(
            title=f"Delete the function library {args.library}, after a backup",
            commands=[
                ["FUNCTION", "DUMP"],
                ["FUNCTION", "LIST", "LIBRARYNAME", args.library, "WITHCODE"],
                ["FUNCTION", "DELETE", args.library],
            ],
            predicted_effect=f"{len(names or []):,} functions go: {shown}. Whoever calls one gets "
            "an error. Replicas and the append-only file follow.",
            verification="FUNCTION LIST does not name it, and calls that fail do not rise",
            rollback="FUNCTION LOAD of its code from the backup, if nobody has loaded a library "
            "of that name since; possible until the backup expires",
            never_touches="other libraries, keys, cached scripts",
            blast_radius="one library; the backup also holds FUNCTION DUMP of all of them, which "
            "a person can give to FUNCTION RESTORE",
        )

    async def preconditions(
        self, connection: Connection, args: DeleteFunctionArguments
    ) -> list[Check]:
        """Confirmed by the owner, on a primary, there, and no function is being called."""
        vitals = await read_vitals(connection)
        names = await _functions(connection, args.library)
        first = await _calls(connection)
        await connection.wait(WATCH_SECONDS)
        calls = await _calls(connection) - first
        return [
            Check(
                text=f"The owner says that nothing calls {args.library} any more",
                holds=args.owner_confirmed,
                because="confirmed" if args.owner_confirmed else "not confirmed",
            ),
            is_primary(vitals),
            Check(
                text=f"There is a library {args.library}",
                holds=names is not None and bool(names),
                because="functions came with version 7.0"
                if names is None
                else f"{len(names)} functions in it",
            ),
            Check(
                text="Nobody calls functions now: whose they are, the server does not count",
                holds=calls == 0,
                because=f"{calls} FCALL in {WATCH_SECONDS:.0f} s",
            ),
        ]

    async def capture(
        self, connection: Connection, args: DeleteFunctionArguments
    ) -> dict[str, Any]:
        """Its functions' names; its code goes into the backup only."""
        return {"functions": await _functions(connection, args.library) or []}

    async def apply(
        self,
        connection: Connection,
        args: DeleteFunctionArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """Keep, then delete. Raises CommandFailure."""
        tried = f"keep the library {args.library}"
        if operation.backups is None:
            raise CommandFailure("not_allowed", tried, "there is nowhere to keep it")
        everything = await connection.execute("FUNCTION", "DUMP")
        listed = await connection.execute(
            "FUNCTION", "LIST", "LIBRARYNAME", args.library, "WITHCODE"
        )
        code = mapping(items(listed)[0]).get("library_code") if items(listed) else None
        if not isinstance(code, bytes) or not isinstance(everything, bytes):
            raise CommandFailure("error", tried, "the server did not give its code")
        name = args.library.encode()
        kept = [Saved(name, code, kind="library"), Saved(b"", everything, kind="functions")]
        try:
            backup = await operation.backups.open(operation.id)
            try:
                await backup.add(kept)
            finally:
                receipt = await backup.close()
            read = [saved async for saved in operation.backups.read(operation.id)]
        except (OSError, BackupDamaged) as trouble:
            raise CommandFailure("error", tried, f"nothing was deleted: {trouble}") from None
        if read[-len(kept) :] != kept:
            raise CommandFailure("error", tried, "what was just kept does not read back")
        await connection.execute("FUNCTION", "DELETE", args.library)
        return {"libraries_deleted": 1, "backup": receipt}

    async def verify(
        self, connection: Connection, args: DeleteFunctionArguments, captured: dict[str, Any]
    ) -> Verification:
        """It is gone, and nobody meets its absence."""
        names = await _functions(connection, args.library)
        failed = await _calls(connection, failed=True)
        await connection.wait(WATCH_SECONDS)
        failing = await _calls(connection, failed=True) - failed
        measured = {"functions": len(names or []), "failed_calls_per_second": failing}
        if names:
            because = "the library is there: somebody loaded it again"
        elif failing:
            because = f"{failing} calls of functions a second fail now"
        else:
            because = f"{args.library} is gone, and no call of a function fails"
        return Verification(helped=not names and not failing, because=because, measured=measured)

    async def undo(
        self,
        connection: Connection,
        args: DeleteFunctionArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """FUNCTION LOAD of what was kept."""
        if operation.backups is None:
            raise CommandFailure("not_allowed", "restore", "the backups are not configured")
        return await restore(connection, operation.backups, operation)

    async def settle(
        self, connection: Connection, args: DeleteFunctionArguments, captured: dict[str, Any]
    ) -> Literal["applied", "not_applied", "unknown"]:
        """The list itself says it."""
        return "not_applied" if await _functions(connection, args.library) else "applied"


async def _functions(connection: Connection, library: str) -> list[str] | None:
    """Names of its functions; empty: no such library; None: this server has no functions."""
    try:
        listed = await connection.execute("FUNCTION", "LIST", "LIBRARYNAME", library)
    except CommandFailure as failure:
        if failure.kind == "unknown_command":
            return None
        raise
    return [
        printable(text(mapping(function).get("name")))
        for row in items(listed)
        for function in items(mapping(row).get("functions"))
    ]


async def _calls(connection: Connection, *, failed: bool = False) -> int:
    """Calls of functions since the start, or those of them that failed."""
    info = await read_info(connection, "commandstats")
    total = 0
    for command in CALLS:
        parts = dict(
            part.split("=", 1) for part in info.get(f"cmdstat_{command}", "").split(",") if part
        )
        total += int(parts.get("failed_calls" if failed else "calls", 0))
    return total
