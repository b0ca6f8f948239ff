"""Looks at a target for a question: bounded, and taken only if one is wanted."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from agent.context import Target
from agent.incident import Incident
from agent.reaching import open_target
from agent.redaction import redact_tree, redacted
from api.observed_connection import ObservedConnection
from api.run_telemetry import TELEMETRY
from tools.connection import CommandFailure, Connection
from tools.known import Known
from tools.reading import Evidence, NotMeasured, Reading
from tools.reads import READS
from tools.replicas import Walker
from tools.summaries import summarize

MOST_LOOKS = 16
LOOK_SECONDS = 20.0


@dataclass
class Looks:
    """Further reads of one question: bounded, opened only if one is wanted."""

    target: Target
    keep: Callable[[Evidence], Awaitable[Evidence]] | None = None
    """Called with what was seen; returns it as it was kept, under the number it got."""
    incident: Incident | None = None
    """What it is about, if it is about one."""
    past: Known | None = None
    """What is known of the target besides what can be seen of it."""
    purpose: str = "chat"
    """As what its load on the target is counted."""
    known: int = 0
    """The highest number of the evidence there is."""
    taken: int = 0
    _connection: Connection | None = field(default=None, init=False)
    _walks: Walker | None = field(default=None, init=False)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def look(self, tool: str, arguments: dict[str, Any]) -> Evidence:
        """One read. Raises KeyError for an unknown tool, ValidationError for bad arguments."""
        chosen = READS[tool]
        wanted = self._with_target_facts(tool) | arguments
        args = chosen.args.model_validate(wanted).model_dump(mode="json", exclude_defaults=True)
        self.taken += 1
        number = self.known + self.taken
        connection = await self._open()
        taken_at = connection.now()
        with TELEMETRY.span(f"tool {tool}"):
            try:
                connection = await self._walker(connection).connection_for(chosen)
                seen = await self._read(connection, tool, args, number - self.known)
            except CommandFailure as failure:
                seen = failure.as_not_measured()
        TELEMETRY.looked(tool, seen.failure if isinstance(seen, NotMeasured) else "measured")
        reading = redacted(seen)
        evidence = Evidence(
            id=f"E{number}",
            tool=tool,
            args=redact_tree(args),
            reading=reading.model_dump(mode="json"),
            measured=not isinstance(reading, NotMeasured),
            taken_at=taken_at,
            target=self.target.name,
            node=connection.node,
            summary=summarize(reading),
        )
        return evidence if self.keep is None else await self.keep(evidence)

    async def _open(self) -> Connection:
        async with self._opening:
            if self._connection is None:
                opened = await open_target(self.target, self.incident)
                self._connection = ObservedConnection(opened, self.target.name, self.purpose)
            return self._connection

    def _walker(self, connection: Connection) -> Walker:
        if self._walks is None:
            self._walks = Walker(connection, self.target.walk_on)
        return self._walks

    def _with_target_facts(self, tool: str) -> dict[str, Any]:
        limit = self.target.memory_limit
        known = limit is not None and "memory_limit" in READS[tool].args.model_fields
        return {"memory_limit": limit} if known else {}

    async def _read(
        self, connection: Connection, tool: str, args: dict[str, Any], number: int
    ) -> Reading | NotMeasured:
        if number > MOST_LOOKS:
            because = f"this question has spent its {MOST_LOOKS} looks"
            return NotMeasured(not_measured=tool, because=because, failure="budget")
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                node = "" if self._connection is None else self._connection.node
                ours = await self.past(tool, node) if self.past is not None else {}
                return await READS[tool].call(connection, args | ours)
        except TimeoutError:
            because = f"no answer within {LOOK_SECONDS:.0f} s"
            return NotMeasured(not_measured=tool, because=because, failure="timeout")
        except ValidationError as error:
            # Arguments were validated before: this is a reply no server we know gives.
            because = f"a reply of unexpected shape ({error.error_count()} fields)"
            return NotMeasured(not_measured=tool, because=because, failure="error")

    async def close(self) -> None:
        """Close the connection, if one was opened."""
        if self._connection is not None:
            await self._connection.close()
