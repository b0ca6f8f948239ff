"""CONFIG GET of the allow-list (`tools/permissions.py`); never a password."""

from pydantic import Field, field_validator

from tools.catalogue import Arguments
from tools.connection import CommandFailure, Connection
from tools.permissions import CONFIG_PARAMETERS, CONFIG_SETTABLE
from tools.reading import Reading
from tools.replies import items, text

VALUE_LENGTH = 1_000
"""Longest value kept, in characters."""


class Parameter(Reading):
    """One parameter as the server prints it; sizes in bytes."""

    name: str
    value: str


class Configuration(Reading):
    """CONFIG GET of allowed parameters; those this build lacks are in `unknown`."""

    parameters: dict[str, str]
    """parameter -> value, e.g. {"maxmemory": "104857600"}. Names hold no dots: safe in paths."""
    unknown: list[str]


class ConfigGetArguments(Arguments):
    """Which parameters."""

    parameters: list[str] = Field(
        default_factory=lambda: list(CONFIG_PARAMETERS),
        max_length=len(CONFIG_PARAMETERS),
        json_schema_extra={"items": {"type": "string", "enum": list(CONFIG_PARAMETERS)}},
    )
    """Names on the allow-list; left out: all of them."""

    @field_validator("parameters")
    @classmethod
    def _allowed(cls, names: list[str]) -> list[str]:
        wanted = list(dict.fromkeys(name.strip().lower() for name in names))
        if refused := [name for name in wanted if name not in CONFIG_SETTABLE]:
            raise ValueError(f"not on the list of parameters that may be read: {refused}")
        return wanted or list(CONFIG_PARAMETERS)


async def config_get(connection: Connection, args: ConfigGetArguments) -> Configuration:
    """Configuration as the server prints it: sizes in bytes, times as each parameter has them.

    Parameters that this version does not have are listed as unknown. Source: CONFIG GET.
    """
    # One command for each: 6.2 takes a single parameter.
    replies = await connection.execute_many([("CONFIG", "GET", n) for n in args.parameters])
    failures = [reply for reply in replies if isinstance(reply, CommandFailure)]
    if len(failures) == len(replies):
        raise failures[0]
    found = {}
    for name, reply in zip(args.parameters, replies, strict=True):
        pair = [] if isinstance(reply, CommandFailure) else items(reply)
        if len(pair) == 2:
            found[name] = text(pair[1], VALUE_LENGTH)
    return Configuration(
        parameters=found, unknown=[name for name in args.parameters if name not in found]
    )


async def setting(connection: Connection, name: str) -> str | CommandFailure:
    """One parameter's value, empty if this server does not have it, or why it cannot be read."""
    (reply,) = await connection.execute_many([("CONFIG", "GET", name)])
    if isinstance(reply, CommandFailure):
        return reply
    pair = items(reply)
    return text(pair[1], VALUE_LENGTH) if len(pair) == 2 else ""
