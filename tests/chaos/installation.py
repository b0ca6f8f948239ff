"""A whole installation on loopback: services, workers, queue, database and five targets."""

import asyncio
import contextlib
import secrets
import shutil
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import redis
import yaml
from sqlalchemy import text

from api.auditing import keyring
from api.settings import Settings, load_settings
from api.store.chain import Keyring
from api.store.database import Database, database_url
from evals import servers
from tests.api.process import fill
from tests.api.serving import sha256
from tests.chaos import member
from tests.chaos.plan import SERVES, TARGETS, WORKERS, Blow, Variant
from tests.chaos.processes import Member, Postgres, Process, QueueServer, answers, strike

TOKEN = "roc_chaos01_" + secrets.token_hex(16)
READY_SECONDS = 300.0
REQUEST_SECONDS = 10.0
ILL = "cache-0"
"""Its memory is full of keys that never expire; of the other targets nothing is wrong."""
_LIMIT = 24 * 1024 * 1024


class Installation:
    """What is struck, and how an observer and a sender reach it."""

    def __init__(self, variant: Variant) -> None:
        self.variant: Variant = variant
        self.folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        self.processes: dict[str, list[Process]] = {}
        self._locks: dict[Process, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._supervisors: list[asyncio.Task[None]] = []
        self._postgres: Postgres | None = None
        self._ill, self._well = (
            servers.start("valkey-9.1", _valkey(), arguments)
            for arguments in (("--maxmemory", str(_LIMIT)), ())
        )
        fill(self._ill.port)
        self._target = redis.Redis(port=self._ill.port, decode_responses=True)
        self._as_found = self._target.config_get("maxmemory*")

    async def start(self) -> None:
        """Everything at once, as after a power cut."""
        if self.variant != "sqlite":
            self._postgres = await asyncio.to_thread(Postgres, self.folder / "postgres.log")
            queue = QueueServer(self.folder, persistent="persistent" in self.variant)
            self.processes |= {"database": [self._postgres], "queue": [queue]}
            await asyncio.to_thread(self._postgres.start)
            queue.start()
            self._environment = self._surroundings(
                DATABASE_URL=self._postgres.url, REDIS_ONCALL_QUEUE=f"redis://127.0.0.1:{queue.port}/0"
            )  # fmt: skip
        else:
            self._environment = self._surroundings()
        embedded = self.variant == "sqlite"
        ports = [servers.free_port() for _ in range(1 if embedded else SERVES)]
        alone = [] if embedded else ["--no-worker"]
        serves = [self._member("serve", "--port", str(port), *alone) for port in ports]
        workers = [] if embedded else [self._member("worker") for _ in range(WORKERS)]
        self.processes |= {"serve": list(serves), "worker": list(workers)}
        self._members = [*serves, *workers]
        self.urls = [f"http://127.0.0.1:{port}" for port in ports]
        for one in self._members:
            one.start()
            self._supervisors.append(asyncio.create_task(one.supervise()))
        self.settings: Settings = load_settings(self._environment)
        self.keys: Keyring = await asyncio.to_thread(keyring, self.settings)
        self.client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {TOKEN}"}, timeout=REQUEST_SECONDS
        )
        for port in ports:
            await answers(port)
        await self.ready()
        self.database = Database(database_url(self.settings.database_url.get_secret_value()))
        number = "INTEGER PRIMARY KEY AUTOINCREMENT" if embedded else "BIGSERIAL PRIMARY KEY"
        columns = "target TEXT, fencing BIGINT, incident_id TEXT, attempt BIGINT, status TEXT"
        async with self.database.writing() as session:
            await session.execute(text(f"CREATE TABLE {member.NOTES} (id {number}, {columns})"))

    def _member(self, *arguments: str) -> Member:
        return Member(arguments, self._environment, self.log)

    @property
    def log(self) -> Path:
        """Of all services and workers."""
        return self.folder / "service.log"

    def _surroundings(self, **more: str) -> dict[str, str]:
        targets: list[dict[str, Any]] = [
            {
                "name": f"cache-{number}",
                "url": (self._well if number else self._ill).url,
                "environment": "staging",
                "match": {"instance": f"cache-{number}"},
            }
            for number in range(TARGETS)
        ]
        targets[0]["remedy_url"] = self._ill.url
        tokens = [{"name": "alice", "role": "admin", "sha256": sha256(TOKEN)}]
        config = {"targets": targets, "tokens": tokens, "policy": {"verify_for": "1s"}}
        path = self.folder / "oncall.yaml"
        path.write_text(yaml.safe_dump(config))
        return {
            "PATH": "/usr/bin:/bin",
            "REDIS_ONCALL_CONFIG": str(path),
            "REDIS_ONCALL_DATA": str(self.folder / "data"),
            "REDIS_ONCALL_KEY": secrets.token_hex(32),
            **more,
        }

    async def ready(self) -> None:
        """Wait until every service says that it and all it depends on work."""
        async with asyncio.timeout(READY_SECONDS):
            for url in self.urls:
                while not await self._is_ready(url):
                    await asyncio.sleep(0.3)

    async def _is_ready(self, url: str) -> bool:
        with contextlib.suppress(httpx2.HTTPError):
            return (await self.client.get(f"{url}/readyz")).is_success
        return False

    async def struck(self, blow: Blow) -> bool:
        """One blow; one after the other, where two are for the same process. False: it missed."""
        process = self.processes[blow.kind][blow.which % len(self.processes[blow.kind])]
        async with self._locks[process]:
            return await strike(process, blow.how, blow.away)

    def fall_ill_again(self) -> int:
        """Take back what remedies changed; how often settings were written so far."""
        for name, value in self._as_found.items():
            self._target.config_set(str(name), str(value))
        return self.settings_written()

    def settings_written(self) -> int:
        """CONFIG SET commands the ill server has carried out."""
        stats = self._target.info("commandstats")
        return int(stats.get("cmdstat_config|set", {}).get("calls", 0))

    @property
    def ended_by_themselves(self) -> int:
        """Services and workers that were started again without having been struck."""
        return sum(one.ended_by_itself for one in self._members)

    async def close(self) -> None:
        """Leave nothing behind."""
        for task in self._supervisors:
            task.cancel()
        await asyncio.gather(*self._supervisors, return_exceptions=True)
        with contextlib.suppress(AttributeError):  # it did not come so far
            await self.database.close()
            await self.client.aclose()
        for process in (one for kind in self.processes.values() for one in kind):
            await asyncio.to_thread(process.kill)
        if self._postgres is not None:
            self._postgres.close()
        self._target.close()
        for server in (self._ill, self._well):
            servers.stop(server)
        shutil.rmtree(self.folder, ignore_errors=True)


def _valkey() -> Path:
    found = servers.binary("valkey-9.1")
    if found is None:
        raise LookupError("valkey-9.1 is not installed here")
    return found


@asynccontextmanager
async def installed(variant: Variant) -> AsyncIterator[Installation]:
    """A running installation until the block ends."""
    one = Installation(variant)
    try:
        await one.start()
        yield one
    finally:
        await one.close()
