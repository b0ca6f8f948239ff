"""The catalogue of read-only tools. The model's functions, MCP, `GET /v1/tools` and the docs are
generated from it; what is not listed here does not exist.
"""  # noqa: D205

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError

from tools.connection import CommandFailure, Connection
from tools.reading import NotMeasured, Reading


class Arguments(BaseModel):
    """Base of every tool's arguments: bounded, unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Tool:
    """One typed, read-only look at a server."""

    name: str
    run: Callable[[Connection, Any], Awaitable[Reading | NotMeasured]]
    args: type[Arguments]
    reading: type[Reading]
    description: str

    async def call(
        self, connection: Connection, arguments: dict[str, Any]
    ) -> Reading | NotMeasured:
        """Validate and run. An expected failure is a NotMeasured; a bug raises.

        Raises pydantic.ValidationError for arguments that do not fit.
        """
        args = self.args.model_validate(arguments)
        try:
            return await self.run(connection, args)
        except CommandFailure as failure:
            return failure.as_not_measured()

    def parse(self, reading: dict[str, Any]) -> Reading | NotMeasured:
        """Stored evidence back to its type."""
        try:
            return self.reading.model_validate(reading)
        except ValidationError:
            return NotMeasured.model_validate(reading)


def tool(run: Callable[[Connection, Any], Awaitable[Reading | NotMeasured]]) -> Tool:
    """A Tool from a function `(connection, args: SomeArguments) -> SomeReading | NotMeasured`."""
    hints = get_type_hints(run)
    returns = [
        cls
        for cls in getattr(hints["return"], "__args__", (hints["return"],))
        if cls is not NotMeasured
    ]
    return Tool(run.__name__, run, hints["args"], returns[0], inspect.getdoc(run) or "")
