"""Looks: what a reasoner may ask for, and what it may not say."""

from agent.case import CaseFile
from evals.run import opened
from evals.truth import incidents
from tests.agent.desk import library


async def test_no_reasoner_names_the_limit_of_the_target() -> None:
    """Else it would read back as evidence what it made up."""
    context = opened(incidents()[0], library())
    case = CaseFile(context, await context.journal.incident(), library(), [])
    told = await case.look("memory_info", {"memory_limit": 1_234})
    assert told.measured
    assert told.args == {}
    assert 1_234 not in told.reading.values()
    assert await case.look("memory_info", {}) is told
