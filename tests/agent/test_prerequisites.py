"""A change is written to the file only after it has proved itself in the same incident."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import redis

from agent import executor, verification
from agent.incident import Plan
from evals import servers
from evals.servers import Server
from tests.agent.operating import HZ, Desk


@pytest.mark.parametrize("proved", [True, False])
async def test_only_a_verified_change_is_kept_over_a_restart(
    tmp_path: Path, start_server: Callable[..., Server], proved: bool
) -> None:
    file = tmp_path / "server.conf"
    file.write_text("hz 10\n")
    path = servers.binary("valkey-9.1")
    assert path is not None
    server = servers.start("valkey-9.1", path, configuration=file)
    desk = Desk(server)
    try:
        keep = await desk.approved("rewrite_config", HZ | {"old": "10"}, id="A2")
        change = await desk.approved("set_config", HZ)
        await desk.journal.set_plan(Plan(actions=[change, keep]))
        context = await desk.context()
        change = await executor.apply(context, change)
        if proved:
            await verification.verify(context, change, hold_seconds=0)
        ended = await executor.apply(context, keep)
        assert ended.status == ("applied" if proved else "lapsed"), ended.comment
        assert ("hz 50" in file.read_text()) is proved
        if not proved:
            assert "no verified set_config of hz 50" in ended.comment
        with closing(redis.Redis(port=server.port, decode_responses=True)) as client:
            assert client.config_get("hz")["hz"] == "50"
    finally:
        if desk.reading is not None:
            await desk.reading.close()
        servers.stop(server)
