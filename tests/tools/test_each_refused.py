"""Every read tool at a server whose user may run all commands but one, each in turn."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pytest
import redis

from evals.bench.mixed_keys import mixed_keys
from evals.pouring import pour
from evals.servers import Server
from tests.tools.looking import ask, client_of
from tools.connection import Command, CommandFailure, LiveConnection, Reply
from tools.keyspace import BigKeys
from tools.permissions import acl_name
from tools.reading import NotMeasured, Reading
from tools.reads import READS
from tools.shape import Baselines, KeyShape, shape_of

AT_ONCE = 8
"""Looks beside each other: most of each is waiting between two samples."""

OPENING = {"client|id", "client|setname", "client|no-touch", "role"}
"""Courtesies when a link is opened: a server that refuses them is looked at all the same."""


WITHOUT = {
    ("ping", "server_info"): "a refusal takes as long as an answer",
    ("time", "slowlog"): "our own clock tells the ages",
    ("time", "latency_latest"): "our own clock tells the ages",
    ("slowlog|get", "slowlog"): "COMMANDLOG has the same, on Valkey",
    ("config|get", "clients"): "INFO has maxclients, since 7.0",
    ("config|get", "latency_histogram"): "it says why there are no histograms, and there are",
}
"""What a tool does as well without."""


AT = datetime(2026, 11, 30, tzinfo=UTC)
BEFORE = Baselines(
    servers=[shape_of({"redis_version": "6.2.5"}, AT, "127.0.0.1:6379")],
    keyspaces=[KeyShape(at=AT, sampled=1_000, groups=[])],
)


class Noting(LiveConnection):
    """Notes which commands it sends."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.sent = set[str]()

    async def execute_many(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        self.sent.update(acl_name(command) for command in commands)
        return await super().execute_many(commands)


async def look(url: str) -> tuple[dict[str, Reading | NotMeasured], dict[str, set[str]]]:
    """What each tool reads, and which commands it sends."""

    async def one(name: str) -> tuple[Reading | NotMeasured, set[str]]:
        noting = Noting(url)
        await noting.open()
        try:
            fields = READS[name].args.model_fields
            quick = {"seconds": 1.0} if "seconds" in fields else {}
            more: dict[str, Any] = {"keys": ["app0:0", "s"]} if name == "stream_info" else {}
            more |= {"baselines": BEFORE} if "baselines" in fields else {}
            return await READS[name].call(noting, quick | more), noting.sent
        finally:
            await noting.close()

    found = await asyncio.gather(*map(one, READS))
    return (
        {name: reading for name, (reading, _) in zip(READS, found, strict=True)},
        {name: sent for name, (_, sent) in zip(READS, found, strict=True)},
    )


@contextlib.contextmanager
def in_use(server: Server, stream: str) -> Iterator[None]:
    """Before 7.2 no other stream may be looked into than one that is used this very second."""
    over = threading.Event()

    def use() -> None:
        client = client_of(server)
        while not over.wait(0.1):
            client.xlen(stream)

    thread = threading.Thread(target=use)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.usefixtures("close_samples")
@pytest.mark.long
async def test_what_is_refused_is_said_and_the_rest_is_read(server: Server) -> None:
    pour(server.port, mixed_keys(300))
    admin = client_of(server)
    admin.xadd("s", {"a": "b"})
    admin.xgroup_create("s", "g", "0")
    with in_use(server, "s"):
        _, sends = await look(server.url)
    used = sorted(set[str]().union(*sends.values()))
    assert len(used) >= 20  # a walk that meets a busy server asks less
    users = {}
    for number, command in enumerate(used):
        # 6.2 cannot refuse a part of a command, and not every version has each.
        with contextlib.suppress(redis.ResponseError):
            ask(admin, f"ACL SETUSER u{number} reset on >p ~* &* +@all -{command}")
            users[command] = f"redis://u{number}:p@127.0.0.1:{server.port}"
    silent: list[tuple[str, str]] = []
    left = iter(users)
    with in_use(server, "s"):
        while some := list(islice(left, AT_ONCE)):
            looks = await asyncio.gather(*(look(users[command]) for command in some))
            for command, (readings, sent) in zip(some, looks, strict=True):
                silent += said_nothing(command, readings, sent)
    assert not silent, "\n".join(map(str, silent))


def said_nothing(
    command: str, readings: dict[str, Reading | NotMeasured], sent: dict[str, set[str]]
) -> Iterator[tuple[str, str]]:
    """The tools that sent this command, which was refused, and do not say so."""
    for tool, reading in readings.items():
        is_told = "permission" in reading.model_dump_json()
        if isinstance(reading, BigKeys) and command == "type":
            assert "types could not be read" in reading.stopped_because
        if command not in sent[tool]:
            assert not is_told, (command, tool)
        elif not is_told and command not in OPENING and (command, tool) not in WITHOUT:
            yield command, tool
