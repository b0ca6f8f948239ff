"""The case file of one investigation: what is known, and how to look further."""

import asyncio
import json
from typing import Any

from pydantic import ValidationError

from agent.context import Context
from agent.exchange import Ledger
from agent.incident import Incident, Usage
from agent.redaction import redact_tree, redacted
from agent.runbook import Library
from tools.connection import CommandFailure, Connection
from tools.reading import Evidence, NotMeasured, Reading
from tools.reads import READS
from tools.summaries import summarize

LOOK_SECONDS = 30.0
"""Longest a single look may take."""
MOST_LOOKS = 60
"""Looks of one investigation, over all reasoners: the target's load budget."""


class CaseFile:
    """Runs read-only tools and keeps what they saw; the same look is taken only once."""

    def __init__(
        self,
        context: Context,
        incident: Incident,
        runbooks: Library,
        evidence: list[Evidence],
        *,
        tag: str = "",
    ) -> None:
        self.incident = incident
        self.runbooks = runbooks
        self.evidence = evidence
        self._context = context
        self._tag = tag
        """What the summary of new evidence begins with."""
        self._looks: dict[str, asyncio.Task[Evidence]] = {}

    async def look(self, tool: str, arguments: dict[str, Any]) -> Evidence:
        """Run a tool of READS, or answer from what was already seen with the same arguments.

        Raises KeyError for an unknown tool, pydantic.ValidationError for bad arguments.
        """
        chosen = READS[tool]
        wanted = self._with_target_facts(tool, arguments)
        args = redact_tree(
            chosen.args.model_validate(wanted).model_dump(mode="json", exclude_defaults=True)
        )
        for seen in self.evidence:
            if seen.tool == tool and seen.args == args:
                return seen
        key = json.dumps([tool, args], sort_keys=True)
        if key not in self._looks:
            look = self._looks[key] = asyncio.create_task(self._look(tool, args))
            self._context.looking.add(look)
            look.add_done_callback(self._context.looking.discard)
        return await asyncio.shield(self._looks[key])

    @property
    def ledger(self) -> Ledger:
        """The incident's: what a model's calls cost is counted there."""
        return self._context.journal.ledger

    def _with_target_facts(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """What the configuration knows of the target is never for the one who looks to say.

        A model that named a limit of its own would read the pressure it made up as evidence.
        """
        facts = {
            "memory_limit": self._context.target.memory_limit,
            "history": None,
            "ranges": None,
            "facts": None,
            "baselines": None,
        }
        fields = READS[tool].args.model_fields
        asked = {name: value for name, value in arguments.items() if name not in facts}
        return asked | {
            name: value for name, value in facts.items() if name in fields and value is not None
        }

    async def _look(self, tool: str, args: dict[str, Any]) -> Evidence:
        connection: Connection = self._context.connection
        taken_at = connection.now()
        telemetry = self._context.telemetry
        with telemetry.span(f"tool {tool}") as span:
            try:
                connection = await self._context.walker.connection_for(READS[tool])
                seen = await self._read(connection, tool, self._context.names.true(args))
            except CommandFailure as failure:
                seen = failure.as_not_measured()
            outcome = seen.failure if isinstance(seen, NotMeasured) else "measured"
            span.set({"redis_oncall.outcome": outcome})
        telemetry.looked(tool, outcome)
        self._context.names.learn(seen.model_dump(mode="json"))
        reading = redacted(seen)
        evidence = await self._context.journal.add_evidence(
            tool,
            args,
            reading.model_dump(mode="json"),
            measured=not isinstance(reading, NotMeasured),
            node=connection.node,
            summary=self._tag + summarize(reading),
            taken_at=taken_at,
            usage=Usage(tool_calls=1),
        )
        self.evidence.append(evidence)
        return evidence

    async def _read(
        self, connection: Connection, tool: str, args: dict[str, Any]
    ) -> Reading | NotMeasured:
        if len(self._looks) > MOST_LOOKS:
            return NotMeasured(
                not_measured=tool,
                because=f"this investigation has spent its {MOST_LOOKS} looks at the target",
                failure="budget",
            )
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                known = self._context.known
                node = self._context.connection.node
                ours = await known(tool, node) if known is not None else {}
                return await READS[tool].call(connection, args | ours)
        except TimeoutError:
            return NotMeasured(
                not_measured=tool,
                because=f"no answer within {LOOK_SECONDS:.0f} s",
                failure="timeout",
            )
        except ValidationError as error:
            # Arguments were validated before: this is a reply no server we know gives.
            return NotMeasured(
                not_measured=tool,
                because=f"a reply of unexpected shape ({error.error_count()} fields)",
                failure="error",
            )
