"""Checkpoints of a run, written only while its lease is its own.

LangGraph fences nothing: a run that was frozen and replaced would, once awake, put a step of long
ago on top of what its successor did, and whoever goes on next would go on from there.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from api.store.database import Database
from api.store.leases import Lease, assert_held


class FencedCheckpoints(BaseCheckpointSaver[Any]):
    """Reads as the given checkpointer does; every write raises LeaseLost once it is lost.

    On PostgreSQL a write and the look at the lease are one transaction. SQLite has its checkpoints
    in another file: there the look comes just before.
    """

    def __init__(self, saver: BaseCheckpointSaver[Any], database: Database, lease: Lease) -> None:
        super().__init__(serde=saver.serde)
        self._saver = saver
        self._database = database
        self._lease = lease

    def get_next_version(self, current: Any, channel: None = None) -> Any:
        """As the checkpointer numbers them."""
        return self._saver.get_next_version(current, channel)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The newest, or the one that is named."""
        return await self._saver.aget_tuple(config)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Keep a checkpoint. Raises LeaseLost."""
        async with self._fenced() as saver:
            return await saver.aput(config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Keep what a node has written. Raises LeaseLost."""
        async with self._fenced() as saver:
            await saver.aput_writes(config, writes, task_id, task_path)

    @asynccontextmanager
    async def _fenced(self) -> AsyncIterator[BaseCheckpointSaver[Any]]:
        if self._database.is_sqlite:
            async with self._database.reading() as session:
                await assert_held(session, self._lease)
            yield self._saver
            return
        async with self._database.writing() as session:
            await assert_held(session, self._lease)
            raw = await (await session.connection()).get_raw_connection()
            yield AsyncPostgresSaver(raw.driver_connection, serde=self._saver.serde)  # type: ignore[arg-type]
