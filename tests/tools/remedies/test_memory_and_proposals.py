"""MEMORY PURGE, and the remedies that are only proposals."""

import pytest
import redis

from tests.tools.load import failing
from tools.connection import LiveConnection
from tools.remedies.catalogue import REMEDIES
from tools.remedies.memory import MemoryPurge, MemoryPurgeArguments

PURGE = MemoryPurge()


async def test_purging_is_offered_where_the_allocator_is_jemalloc(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    args = MemoryPurgeArguments(min_gain_bytes=0)
    checks = {check.text: check.holds for check in await PURGE.preconditions(connection, args)}
    jemalloc = client.info("memory")["mem_allocator"].startswith("jemalloc")
    assert next(holds for text, holds in checks.items() if "jemalloc" in text) is jemalloc
    captured = await PURGE.capture(connection, args)
    await PURGE.apply(connection, args, captured)
    verification = await PURGE.verify(connection, args, captured)
    fell = verification.measured["used_memory_rss"] < captured["used_memory_rss"]
    assert verification.helped is fell
    greedy = MemoryPurgeArguments(min_gain_bytes=2**40)
    assert any("given back" in t for t in failing(await PURGE.preconditions(connection, greedy)))


async def test_proposals_have_text_and_no_way_to_be_applied(connection: LiveConnection) -> None:
    advice = REMEDIES["advise_application"]
    args = advice.args.model_validate(
        {"topic": "stream-unbounded", "subject": "orders{x}", "facts": ["length: 200,000"]}
    )
    preview = await advice.preview(connection, args)
    assert "orders{x}" in preview.title
    assert "200,000" in preview.artefact
    assert "XTRIM orders{x} MINID" in preview.artefact
    size = REMEDIES["instance_resize"]
    sizing = size.args.model_validate(
        {
            "needed_bytes": 2**31,
            "recommended_maxmemory": 2**30,
            "arithmetic": ["peak: 1 GiB (used_memory_peak)"],
            "sizes": ["aws cache.m7g.large (6.4 GiB)"],
        }
    )
    preview = await size.preview(connection, sizing)
    assert "2.00 GiB" in preview.title
    assert "cache.m7g.large" in preview.artefact
    for remedy, given in ((advice, args), (size, sizing)):
        assert not remedy.executable
        assert preview.commands == []
        with pytest.raises(NotImplementedError):
            await remedy.apply(connection, given, {})
