"""Checkpoints belong to whoever holds the lease: a run that was replaced adds none."""

import asyncio
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, empty_checkpoint

from api.store.database import Database
from api.store.fenced_checkpoints import FencedCheckpoints
from api.store.leases import Lease, LeaseLost, acquire
from api.store.migrate import open_checkpoints

THREAD: RunnableConfig = {"configurable": {"thread_id": "inc-1/1/1", "checkpoint_ns": ""}}


def step(number: int, versions: dict[str, Any]) -> Checkpoint:
    at = {"at": {"step": number}}
    return empty_checkpoint() | {
        "id": f"{number:032}",
        "channel_values": at,
        "channel_versions": versions,
    }


async def lease_of(database: Database, holder: str, seconds: float = 30) -> Lease:
    lease = await acquire(database, "cache-1", "inc-1", holder, seconds)
    assert lease is not None
    return lease


async def test_a_run_that_was_frozen_and_replaced_adds_no_checkpoint(database: Database) -> None:
    async with open_checkpoints(database) as saver:
        first = FencedCheckpoints(saver, database, await lease_of(database, "frozen", 0.1))
        versions = {"at": first.get_next_version(None)}
        config = await first.aput(THREAD, step(1, versions), {"step": 1}, versions)
        await first.aput_writes(config, [("at", {"step": 2})], "task-1")
        await asyncio.sleep(0.2)
        second = FencedCheckpoints(saver, database, await lease_of(database, "successor"))
        found = await second.aget_tuple(THREAD)
        assert found is not None
        assert found.checkpoint["channel_values"] == {"at": {"step": 1}}
        assert [write[2] for write in found.pending_writes or []] == [{"step": 2}]
        kept = await second.aput(config, step(2, versions), {"step": 2}, versions)
        with pytest.raises(LeaseLost):  # awake again, and with the later clock
            await first.aput(config, step(3, versions), {"step": 3}, versions)
        with pytest.raises(LeaseLost):
            await first.aput_writes(kept, [("at", {"step": 9})], "task-2")
        newest = await second.aget_tuple(THREAD)
        assert newest is not None
        assert newest.config == kept
        assert newest.pending_writes == []
