"""Write a changed parameter to the configuration file, once the change has proved itself."""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from tools.catalogue import Arguments
from tools.connection import CommandFailure, Connection, read_info
from tools.remedies.operation import ALONE, Operation
from tools.remedies.parameters import RULES
from tools.remedies.remedy import Check, Preview, Remedy, Risk, Verification
from tools.remedies.situation import current_value
from tools.remedies.vitals import read_parameter


class RewriteConfigArguments(Arguments):
    """Which change is to survive a restart."""

    parameter: str
    value: str = Field(max_length=100)
    """As the verified change set it."""
    old: str = Field(max_length=200)
    """What the undo sets and writes."""

    @model_validator(mode="after")
    def _known(self) -> "RewriteConfigArguments":
        if self.parameter not in RULES:
            raise ValueError(f"'{self.parameter}' is not a parameter that may be set from here")
        RULES[self.parameter].canonical(self.value)
        return self


class RewriteConfig(Remedy[RewriteConfigArguments]):
    """CONFIG REWRITE. Never together with the change: first that is verified."""

    kind: ClassVar[str] = "rewrite_config"
    risk: ClassVar[Risk] = "R1"
    args = RewriteConfigArguments

    async def preview(self, connection: Connection, args: RewriteConfigArguments) -> Preview:
        """Which file, and what else is written to it."""
        file = await _config_file(connection)
        return Preview(
            title=f"Keep {args.parameter} {args.value} over a restart",
            commands=[["CONFIG", "REWRITE"]],
            predicted_effect=f"{file or 'The configuration file'} is written anew: after a "
            f"restart {args.parameter} is {args.value}. CONFIG REWRITE knows no single parameter: "
            "whatever else was changed at run time and not written yet is kept over a restart, "
            "too. Comments in the file stay. A file that a deployment writes is written over by "
            "the next one.",
            verification=f"The server reports success, and {args.parameter} is {args.value}",
            rollback=f"CONFIG SET {args.parameter} {args.old}, then CONFIG REWRITE again; what "
            "else was written stays written",
            never_touches="keys, clients, what is in effect now",
        )

    async def preconditions(
        self, connection: Connection, args: RewriteConfigArguments
    ) -> list[Check]:
        """There is a file, and the change is in effect."""
        file = await _config_file(connection)
        now = await _current(connection, args)
        return [
            Check(
                text="The server was started with a configuration file",
                holds=None if file is None else bool(file),
                because=file or ("not reported" if file is None else "config_file is empty"),
            ),
            Check(
                text=f"{args.parameter} is {args.value}",
                # Before the change is made, there is nothing to be kept yet.
                holds=now == args.value or (None if now == args.old else False),
                because=f"now {now or 'not reported'}",
            ),
        ]

    async def capture(self, connection: Connection, args: RewriteConfigArguments) -> dict[str, Any]:
        """The file."""
        return {"config_file": await _config_file(connection)}

    async def apply(
        self,
        connection: Connection,
        args: RewriteConfigArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """One CONFIG REWRITE. Raises CommandFailure."""
        await connection.execute("CONFIG", "REWRITE")
        return {"written": captured["config_file"]}

    async def verify(
        self, connection: Connection, args: RewriteConfigArguments, captured: dict[str, Any]
    ) -> Verification:
        """The value is in effect; that the file holds it is the server's word."""
        now = await _current(connection, args)
        if now != args.value:
            because = f"{args.parameter} is {now}: something set it back"
            return Verification(helped=False, because=because, measured={"value": now})
        because = f"the server wrote {captured['config_file']}; {args.parameter} is {now}"
        return Verification(helped=True, because=because, measured={"value": now})

    async def undo(
        self,
        connection: Connection,
        args: RewriteConfigArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """Set the old value, and write that. Raises CommandFailure."""
        now = await _current(connection, args)
        tried = f"CONFIG SET {args.parameter} {args.old}"
        if now not in (args.value, args.old):
            failed = f"{args.parameter} is {now}: somebody changed it since, and it is left alone"
            raise CommandFailure("error", tried, failed)
        if now != args.old:
            await connection.execute("CONFIG", "SET", args.parameter, args.old)
        await connection.execute("CONFIG", "REWRITE")
        return {"value": await _current(connection, args), "written": captured["config_file"]}

    async def verify_undo(
        self, connection: Connection, args: RewriteConfigArguments, captured: dict[str, Any]
    ) -> Verification:
        """The old value is in effect, and the server said that it wrote it."""
        now = await _current(connection, args)
        return Verification(helped=now == args.old, because=f"{args.parameter} is {now}")

    async def settle(
        self, connection: Connection, args: RewriteConfigArguments, captured: dict[str, Any]
    ) -> Literal["applied", "not_applied", "unknown"]:
        """No command shows what the file holds."""
        return "unknown"


async def _config_file(connection: Connection) -> str | None:
    """Its path; empty: none; None: not reported."""
    return (await read_info(connection, "server")).get("config_file")


async def _current(connection: Connection, args: RewriteConfigArguments) -> str:
    raw = await read_parameter(connection, args.parameter)
    return "" if raw is None else current_value(args.parameter, raw, args.value)
