"""Whatever keeps the service from starting is told in one sentence that says what to set."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from evals import servers
from tests.forked import Forked

PASSWORD = "s3cr3t-w0rd"
SERVE, WORKER = ("serve", "--port", "0"), ("worker",)


def refused(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Its code, and what it wrote; the log's line that uvicorn has ended is no news."""
    log = folder / "stderr"
    told = os.environ | {"REDIS_ONCALL_CONFIG": "", "REDIS_ONCALL_DATA": str(folder), **environment}
    code = Forked(arguments, told, log).wait(60)
    lines = log.read_text().splitlines()
    (said,) = [line for line in lines if "http://" not in line and "startup failed" not in line]
    return code, said


@pytest.mark.parametrize("command", [SERVE, WORKER])
@pytest.mark.parametrize("what", ["away", "garbage", "no folder"])
def test_a_database_that_cannot_be_used(
    tmp_path: Path, command: tuple[str, ...], what: str
) -> None:
    port = servers.free_port()
    environment: Mapping[str, str] = {
        "away": {"DATABASE_URL": f"postgresql://oncall:{PASSWORD}@127.0.0.1:{port}/oncall"},
        "garbage": {},
        "no folder": {"REDIS_ONCALL_DATA": str(tmp_path / "redis-oncall.db" / "folder")},
    }[what]
    (tmp_path / "redis-oncall.db").write_bytes(b"garbage" * 4_000)
    code, said = refused(tmp_path, *command, **environment)
    assert code == 1
    assert said.startswith("redis-oncall: the database ")
    assert "DATABASE_URL" in said
    assert what == "away" or "REDIS_ONCALL_DATA" in said
    because = {"away": "refused", "garbage": "not a database", "no folder": "Not a directory"}
    assert because[what] in said
    assert PASSWORD not in said


def test_a_port_in_use_is_told_before_a_worker_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, said = refused(tmp_path, "serve", "--port", port)
    assert (code, "in use" in said, "--port" in said) == (1, True, True)
    assert not (tmp_path / "redis-oncall.db").exists()
