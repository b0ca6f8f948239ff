"""A few seeds of what `python -m tests.torture` runs by the hundreds."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest
import redis.asyncio as aioredis

from evals import servers
from tests.torture import run, scenes
from tests.torture.proxy import Bad, Proxy


@pytest.mark.soak
@pytest.mark.long
@pytest.mark.parametrize("which", range(len(scenes.SCENES)))
def test_whatever_strikes_it_nothing_is_done_twice_or_half_or_silently(which: int) -> None:
    """Not one of the invariants of `run.py` breaks; the seeds are other ones for each remedy."""
    if servers.binary(scenes.BUILDS[0]) is None:
        pytest.skip(f"{scenes.BUILDS[0]} is not installed here")
    with run.bench(scenes.BUILDS[0]) as bench:
        results = [bench.seed(100 * which + seed, which) for seed in range(2)]
    assert [(one.seed, one.blow, one.broken) for one in results if one.broken] == []


@pytest.mark.parametrize(
    ("bad", "written", "answered"),
    [
        ("drop", 0, False), ("cut_before", 0, False), ("error", 0, False),
        ("cut_after", 1, False), ("error_after", 1, False), ("cut_in_reply", 1, False),
        ("duplicate", 2, True), ("delay", 1, True), ("drip", 1, True),
    ],
)  # fmt: skip
async def test_the_proxy_does_what_it_says(
    start_server: Callable[..., servers.Server], bad: Bad, written: int, answered: bool
) -> None:
    """A torture whose blows do not land would find nothing."""
    server = start_server(scenes.BUILDS[0])
    proxy = Proxy(server.port, bad=bad, at=1, seconds=0.05)
    await proxy.start()
    through = await asyncio.open_connection("127.0.0.1", proxy.port)
    reply = b""
    try:
        for command in (b"*1\r\n$4\r\nPING\r\n", b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n"):
            through[1].write(command)
            with suppress(TimeoutError, asyncio.IncompleteReadError):
                reply = await asyncio.wait_for(through[0].readuntil(b"\r\n"), 0.5)
    finally:
        through[1].close()
        await proxy.close()
    async with aioredis.Redis(port=server.port, protocol=2) as client:
        assert int(await client.get("n") or 0) == written
    assert (reply[:1] == b":") is answered
    assert proxy.seen == [("PING",), ("INCR", "N")]
