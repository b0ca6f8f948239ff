"""Capturing a server: what every read-only tool sees of it, in one file."""

import asyncio
import contextlib
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from tools.connection import LONGEST_PIPELINE, Argument, Command, CommandFailure, Connection
from tools.key_rows import LENGTH_OF
from tools.permissions import CONFIG_PARAMETERS
from tools.recording import RecordingConnection
from tools.recording_file import Recording
from tools.scanner import leaves_idle_time

CAPTURE_BYTES = 60_000
"""What `capture` aims at, compressed."""
SAMPLED_KEYS = 10_000
"""Keys that `capture` reads for the key table."""
_PAGE = 100
SAMPLE_SECONDS = 5.0
CAPTURE_SECONDS = 60.0
"""Longest a single tool may take while capturing."""


async def capture(
    connection: Connection,
    path: Path | str,
    *,
    hash_names: bool = False,
    memory_limit: int | None = None,
    alert: dict[str, Any] | None = None,
    limit: int = CAPTURE_BYTES,
) -> Recording:
    """Record what every read-only tool sees of a server, with a sample of its keys.

    The file stays within `limit` bytes by holding fewer keys. The connection stays open.
    """
    from tools.reads import READS  # every tool: only needed here

    recorder = RecordingConnection(
        connection, hash_names=hash_names, memory_limit=memory_limit, alert=alert, limit=limit
    )
    # Idle times first: length commands of the tools reset them on servers without NO-TOUCH.
    await _try(_sample_keys(recorder))
    configuration = recorder.execute_many([("CONFIG", "GET", name) for name in CONFIG_PARAMETERS])
    looks = [tool.call(recorder, {}) for tool in READS.values()]
    await asyncio.gather(*map(_try, [_two_samples(recorder), configuration, *looks]))
    await asyncio.to_thread(recorder.save, Path(path))
    return recorder.recording


async def _try(look: Coroutine[Any, Any, object]) -> None:
    """One look; one that fails is on record as such and does not end the capture."""
    with contextlib.suppress(CommandFailure, TimeoutError, ValueError):
        async with asyncio.timeout(CAPTURE_SECONDS):
            await look


async def _two_samples(recorder: RecordingConnection) -> None:
    for pause in (SAMPLE_SECONDS, 0.0):
        await recorder.execute("INFO", "everything")
        await recorder.wait(pause)


_LOOKS: tuple[tuple[str, ...], ...] = (
    ("OBJECT", "IDLETIME"), ("TYPE",), ("PTTL",), ("MEMORY", "USAGE"), ("OBJECT", "ENCODING"),
)  # fmt: skip


async def _sample_keys(recorder: RecordingConnection) -> None:
    # Elsewhere a length command would reset the idle time of the keys it looks at.
    may_touch = await leaves_idle_time(recorder)
    looks: list[tuple[str, ...]] | None = None
    cursor: Argument = 0
    for _ in range(SAMPLED_KEYS // _PAGE):
        page = await recorder.execute("SCAN", cursor, "COUNT", _PAGE)
        if not (isinstance(page, list) and len(page) == 2 and isinstance(page[1], list)):
            return
        keys = [key for key in page[1][: LONGEST_PIPELINE // 5] if isinstance(key, bytes)]
        if keys and looks is None:
            looks = await _answered(recorder, keys[0])
        await _read_keys(recorder, keys, looks or [], may_touch)
        cursor = page[0] if isinstance(page[0], bytes) else b"0"
        if cursor == b"0":
            return


async def _answered(recorder: RecordingConnection, key: bytes) -> list[tuple[str, ...]]:
    """Looks that work here: each error reply counts as one of the server's (LFU, NOPERM)."""
    probes: list[Command] = [(*look, key) for look in _LOOKS]
    replies = await recorder.execute_many(probes)
    return [
        look
        for look, reply in zip(_LOOKS, replies, strict=True)
        if not isinstance(reply, CommandFailure)
    ]


async def _read_keys(
    recorder: RecordingConnection, keys: list[bytes], looks: list[tuple[str, ...]], may_touch: bool
) -> None:
    commands: list[Command] = [(*look, key) for look in looks for key in keys]
    if not commands:
        return
    replies = await recorder.execute_many(commands)
    lengths: list[Command] = [
        (LENGTH_OF[kind.decode()], command[1])
        for command, kind in zip(commands, replies, strict=True)
        if command[0] == "TYPE" and isinstance(kind, bytes) and kind.decode() in LENGTH_OF
    ]
    if lengths and may_touch:
        await recorder.execute_many(lengths)
