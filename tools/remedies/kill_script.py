"""End a script that blocks the server, as long as it has not written."""

from typing import Any, ClassVar, Literal

from tools.catalogue import Arguments
from tools.connection import CommandFailure, Connection
from tools.remedies.operation import ALONE, Operation
from tools.remedies.remedy import Check, Preview, Remedy, Risk, Verification

ANSWERS_AGAIN_SECONDS = 5.0
LOOK_SECONDS = 0.05


class KillScriptArguments(Arguments):
    """None: of what runs, a server that answers BUSY says no more than whether it is a function."""


class KillScript(Remedy[KillScriptArguments]):
    """SCRIPT KILL or FUNCTION KILL. The server itself refuses where the script has written."""

    kind: ClassVar[str] = "kill_script"
    risk: ClassVar[Risk] = "R2"
    args = KillScriptArguments
    while_busy: ClassVar[bool] = True

    async def preview(self, connection: Connection, args: KillScriptArguments) -> Preview:
        """What ends, and who notices."""
        runs = await _blocked_by(connection) or "SCRIPT"
        return Preview(
            title="End the script that blocks the server, if it has not written",
            commands=[[runs, "KILL"]],
            predicted_effect="The script's caller gets an error, and everybody else is answered "
            "again. Nothing that the script did is lost: one that has written is refused by the "
            "server (UNKILLABLE), and then it goes on and nothing is changed.",
            verification="The server answers PING again, and goes on to",
            rollback="none: whoever called the script may call it again",
            never_touches="keys, other connections, cached scripts and functions, configuration. "
            "Which server process it is cannot be read while it answers BUSY; the one that "
            "answers so at this address is meant",
            blast_radius="one call of one script",
        )

    async def preconditions(self, connection: Connection, args: KillScriptArguments) -> list[Check]:
        """A script blocks the server now."""
        runs = await _blocked_by(connection)
        return [
            Check(
                text="The server answers BUSY: a script blocks it",
                holds=bool(runs),
                because=f"it asks for {runs} KILL" if runs else "it answers",
            )
        ]

    async def capture(self, connection: Connection, args: KillScriptArguments) -> dict[str, Any]:
        """Script or function; nothing else can be read."""
        return {"blocked_by": await _blocked_by(connection)}

    async def apply(
        self,
        connection: Connection,
        args: KillScriptArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """One KILL, and wait for the script to notice. Raises CommandFailure with UNKILLABLE."""
        runs = await _blocked_by(connection) or captured["blocked_by"] or "SCRIPT"
        await connection.execute(runs, "KILL")
        waited = 0.0
        while await _blocked_by(connection):
            if waited > ANSWERS_AGAIN_SECONDS:
                raise CommandFailure("busy", f"{runs} KILL", "accepted, but the script runs on")
            await connection.wait(LOOK_SECONDS)
            waited += LOOK_SECONDS
        return {"killed": runs.lower()}

    async def verify(
        self, connection: Connection, args: KillScriptArguments, captured: dict[str, Any]
    ) -> Verification:
        """Nothing blocks the server."""
        runs = await _blocked_by(connection)
        because = (
            "a script blocks it again: its caller repeats it" if runs else "the server answers"
        )
        return Verification(helped=not runs, because=because, measured={"blocked_by": runs})

    async def undo(
        self,
        connection: Connection,
        args: KillScriptArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """Nothing to put back."""
        return {"nothing_to_put_back": "a script that had not written left nothing behind"}

    async def verify_undo(
        self, connection: Connection, args: KillScriptArguments, captured: dict[str, Any]
    ) -> Verification:
        """There is nothing that could be otherwise than before."""
        return Verification(helped=True, because="a script that had not written leaves nothing")

    def disturbs(self, args: KillScriptArguments) -> frozenset[str]:
        """Its caller gets an error."""
        return frozenset({"errors"})

    async def settle(
        self, connection: Connection, args: KillScriptArguments, captured: dict[str, Any]
    ) -> Literal["applied", "not_applied", "unknown"]:
        """A script that runs on was not killed; one that does not ended, by this or by itself."""
        return "not_applied" if await _blocked_by(connection) else "applied"


async def _blocked_by(connection: Connection) -> str:
    """`SCRIPT` or `FUNCTION`; empty: the server answers. Raises CommandFailure."""
    try:
        await connection.execute("PING")
    except CommandFailure as failure:
        if failure.kind == "busy":
            return "FUNCTION" if "FUNCTION KILL" in failure.failed else "SCRIPT"
        if failure.kind not in ("misconf", "masterdown", "error"):
            raise
    return ""
