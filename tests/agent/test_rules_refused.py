"""A parameter that may not be read cannot be named; what it does is named all the same."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from agent.run import investigate
from agent.runbook_library import load_library
from evals.run import opened
from evals.truth import incidents
from tools.connection import Argument, Command, CommandFailure, Reply
from tools.recording import RecordedConnection


class WithoutConfig(RecordedConnection):
    """A recording seen by a user who is refused CONFIG."""

    async def execute(self, *command: Argument) -> Reply:
        (reply,) = await self.execute_many([command])
        if isinstance(reply, CommandFailure):
            raise reply
        return reply

    async def execute_many(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        replies = await super().execute_many(commands)
        return [
            CommandFailure("refused", "CONFIG GET", "NOPERM no permissions")
            if str(command[0]).upper().startswith("CONFIG")
            else reply
            for command, reply in zip(commands, replies, strict=True)
        ]


@pytest.mark.parametrize("fault", ["defrag-cpu-burn"])
async def test_the_cause_stands_without_the_parameter_that_may_not_be_read(fault: str) -> None:
    one = incidents(fault)[0]
    context = opened(one, load_library())
    seen = replace(context, connection=WithoutConfig(one.recording))
    incident = await investigate(seen, await seen.journal.incident())
    assert incident.diagnosis is not None
    assert incident.diagnosis.root_cause == fault
    assert incident.diagnosis.culprit.kind == "none"
