"""Servers that keep commands to themselves, as managed services do: what is left is enough."""

from pathlib import Path

import pytest
from redis import Redis

from agent.runbook import Library
from agent.runbook_library import load_library
from evals import servers
from evals.pouring import pour
from tests.agent.test_rules_live import judge
from tools.opening import open_for_reading
from tools.reading import NotMeasured
from tools.reads import READS

ELASTICACHE = ("CONFIG", "BGSAVE", "DEBUG", "MIGRATE", "REPLICAOF", "SAVE", "SHUTDOWN", "SYNC")
MEMORYSTORE = ("ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DEBUG", "MONITOR", "OBJECT")
"""Of what their documentation lists as restricted: what we would ask for, too, is among it."""


@pytest.fixture(scope="module")
def library() -> Library:
    return load_library()


@pytest.mark.parametrize("kept", [ELASTICACHE, MEMORYSTORE], ids=["elasticache", "memorystore"])
async def test_a_leak_is_found_though_commands_are_refused(
    build: str, library: Library, kept: tuple[str, ...], tmp_path: Path
) -> None:
    path = servers.binary(build)
    assert path is not None
    configuration = tmp_path / "managed.conf"
    lines = [f'rename-command {name} ""' for name in kept]
    configuration.write_text("\n".join([*lines, "maxmemory 48mb", "repl-backlog-size 1mb"]) + "\n")
    server = servers.start(build, path, configuration=configuration)
    try:
        pour(server.port, (("SET", f"session:{i:08x}", "x" * 1_000) for i in range(38_000)))
        pour(server.port, (("SET", f"page:{i}", "y" * 200, "EX", 3_600) for i in range(2_000)))
        with Redis(port=server.port) as client:
            assert client.info("memory")["used_memory"] > 40 * 1024 * 1024

        connection = await open_for_reading(server.url)
        refused = await READS["config_get"].call(connection, {})
        assert isinstance(refused, NotMeasured)
        assert refused.failure == "unknown_command"
        assert "managed service" in refused.remedy
        await connection.close()

        diagnosis = await judge(server.url, library, "RedisMemoryHigh")
        assert diagnosis.root_cause == "missing-ttl-prefix-leak"
        assert diagnosis.culprit.name == "session:"
        assert any("CONFIG GET" in text or "config_get" in text for text in diagnosis.not_measured)
    finally:
        servers.stop(server)
