"""What docker-compose.yml starts, with its environment and its volumes, and without docker."""

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from evals import postgresql, servers
from tests.api.serving import sha256
from tests.deploy.monitoring import wait
from tests.deploy.test_deploy_files import ROOT, compose
from tests.forked import Forked

DATA = "/var/lib/redis-oncall"
GIVEN = {
    "POSTGRES_PASSWORD": "p4ssw0rd",
    "ADMIN_TOKEN_SHA256": sha256("roc_admin01_compose"),
    "ALERTMANAGER_TOKEN_SHA256": sha256("roc_am01_compose"),
    "REDIS_ONCALL_KEY": secrets.token_hex(32),
}
"""What its first lines tell people to set."""
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


class Installation:
    """Starts services of the file; what it calls `postgres` and `queue` is on this machine."""

    def __init__(self, folder: Path, places: dict[str, str]) -> None:
        self._folder, self._places = folder, places
        self._started: list[Forked] = []
        self._containers = 0
        self.log = folder / "log"

    def start(self, service: str, *arguments: str) -> tuple[Forked, int]:
        """In a container of its own; and where it listens. `arguments`: instead of its command."""
        told = compose()["services"][service]
        port = servers.free_port()
        here = {"0.0.0.0": "127.0.0.1", "8321": str(port)}
        command = arguments or [here.get(word, word) for word in told["command"]]
        self._started.append(Forked(command, self._environment(told), self.log))
        return self._started[-1], port

    def _environment(self, told: dict[str, Any]) -> dict[str, str]:
        self._containers += 1
        inside = dict(reversed(mount.split(":")[:2]) for mount in told["volumes"])
        # The image makes a volume of its own for each container that is given none.
        data = inside.get(DATA, f"container-{self._containers}")
        environment = {"PATH": os.environ["PATH"], "REDIS_ONCALL_DATA": str(self._folder / data)}
        for name, text in told["environment"].items():
            value = _VARIABLE.sub(_value, text)
            for place, local in self._places.items():
                value = value.replace(place, local)
            environment[name] = str(ROOT / inside[value]) if value in inside else value
        return environment

    def stop(self) -> None:
        for process in self._started:
            process.terminate()
        for process in self._started:
            with contextlib.suppress(Exception):
                process.wait(35)
            process.kill()


def _value(variable: re.Match[str]) -> str:
    name, operator, default = variable.groups()
    return GIVEN[name] if operator == "?" else GIVEN.get(name, default or "")


@pytest.fixture
def installation(
    tmp_path: Path, start_server: Callable[..., servers.Server]
) -> Iterator[Installation]:
    if postgresql.binaries() is None:
        pytest.skip("no PostgreSQL server is installed here (Debian package postgresql)")
    queue = start_server("valkey-9.1")
    with postgresql.running() as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE oncall")
        at = url.partition("@")[2].removesuffix("/postgres")
        places = {"@postgres:5432": f"@{at}", "//queue:6379": f"//127.0.0.1:{queue.port}"}
        installation = Installation(tmp_path, places)
        try:
            yield installation
        finally:
            installation.stop()


def test_service_worker_and_a_backup_go_on_with_one_key(
    installation: Installation, tmp_path: Path
) -> None:
    service, port = installation.start("service")
    worker, _ = installation.start("worker")

    def ready() -> bool:
        ended = [process.poll() for process in (service, worker)]
        assert ended == [None, None], installation.log.read_text()[-2_000:]
        with contextlib.suppress(httpx2.HTTPError):
            return httpx2.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        return False

    wait(ready, "the service and its worker are ready")
    file = tmp_path / "copy.tar.gz"
    backup, _ = installation.start("service", "database", "backup", str(file))
    assert backup.wait(60) == 0, installation.log.read_text()[-2_000:]
    assert file.exists()


def test_what_a_remedy_removed_is_on_a_volume_that_every_worker_has() -> None:
    mounted = {
        name: [mount.split(":")[0] for mount in told["volumes"] if mount.split(":")[1] == DATA]
        for name, told in compose()["services"].items()
        if name in ("service", "worker")
    }
    assert mounted["service"] == mounted["worker"]
    (volume,) = mounted["worker"]
    assert volume in compose()["volumes"]
    assert f"REDIS_ONCALL_DATA={DATA}" in (ROOT / "Dockerfile").read_text()
