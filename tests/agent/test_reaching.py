"""Which node of a deployment a run opens."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from agent import reaching
from agent.context import Target
from agent.incident import EvidenceSummary
from tests.agent.desk import incident

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def piece(tool: str, node: str) -> EvidenceSummary:
    return EvidenceSummary(id="E1", tool=tool, args={}, node=node, summary="", taken_at=NOW)


async def wanted(monkeypatch: pytest.MonkeyPatch, *evidence: EvidenceSummary) -> Sequence[str]:
    asked: list[Sequence[str]] = []

    async def opened(url: str, *, wanted: Sequence[str], follows: bool) -> None:
        asked.append(wanted)

    monkeypatch.setattr(reaching, "open_for_reading", opened)
    waiting = incident(status="awaiting_approval", evidence=list(evidence))
    await reaching.open_target(Target("cache", "redis-cluster://h", walk_on="replica"), waiting)
    return asked[0]


async def test_an_approval_is_about_the_node_that_was_looked_at_not_where_keys_were_walked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On the replica it would lapse, each time: another process answers there."""
    found = await wanted(
        monkeypatch,
        piece("memory_info", "h:7001 (master)"),
        piece("bigkeys", "h:7004 (slave)"),
        piece("clients", "h:7001,h:7002"),
    )
    assert found == ["h:7001 (master)"]
