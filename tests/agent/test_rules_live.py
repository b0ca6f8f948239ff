"""Faults on real servers of each build: the rules name the cause and who did it."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from agent.claims import check
from agent.incident import Diagnosis
from agent.rules import Rules
from agent.runbook import Library
from agent.runbook_library import load_library
from evals.pouring import Word, pour
from evals.servers import Server
from tests.agent.live_case import LiveCase
from tools.permissions import READ_COMMANDS

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def library() -> Library:
    return load_library()


async def judge(url: str, library: Library, alert: str = "") -> Diagnosis:
    case = await LiveCase.opened(url, library, alert)
    try:
        await case.observe()
        draft = await Rules(library).investigate(case)
    finally:
        await case.close()
    diagnosis = check(draft, case.evidence, library)
    assert isinstance(diagnosis, Diagnosis), diagnosis
    return diagnosis


def everyday_keys(server: Server) -> None:
    """Ordinary keys of several families and types; most expire."""
    commands: list[tuple[Word, ...]] = []
    for i in range(2_000):
        commands.append(("SET", f"page:{i}", "x" * (40 + i % 260), "EX", 3_600 + i))
        if i < 300:
            fields = [word for j in range(8) for word in (f"f{j}", "y" * 20)]
            commands.append(("HSET", f"profile:{i}", *fields))
            commands.append(("EXPIRE", f"profile:{i}", 86_400))
        if i < 20:
            commands.append(("RPUSH", f"jobs:{i}", *["z" * 30] * 50))
    assert pour(server.port, commands) == 0


Command = Callable[[int], tuple[Word, ...]]


def fill(server: Server, command: Command, count: int, first: int = 0) -> None:
    pour(server.port, map(command, range(first, first + count)))


def session(i: int) -> tuple[Word, ...]:
    return ("SET", f"session:{i:08x}", "s" * 900)


FILLERS: dict[str, tuple[Command, int, str, tuple[str, str]]] = {
    "stream": (
        lambda i: ("XADD", "orders:events", "*", "id", i, "payload", "x" * 600),
        12_000,
        "stream-unbounded",
        ("stream", "orders:events"),
    ),
    "giant hash": (
        lambda i: ("HSET", "catalog:index", f"sku-{i}", "x" * 300),
        18_000,
        "single-bigkey",
        ("key", "catalog:index"),
    ),
    "prefix without expiry": (
        session,
        12_000,
        "missing-ttl-prefix-leak",
        ("prefix", "session:"),
    ),
}


def limit(client: Redis, pressure: float) -> None:
    used = int(client.info("memory")["used_memory"])
    client.config_set("maxmemory", int(used / pressure))


@pytest.mark.parametrize("maxmemory", ["near", "reached", "unset"])
@pytest.mark.parametrize("what", FILLERS)
async def test_what_filled_the_memory(
    what: str, maxmemory: str, server: Server, library: Library
) -> None:
    command, count, cause, culprit = FILLERS[what]
    with contextlib.closing(Redis(port=server.port)) as client:
        everyday_keys(server)
        fill(server, command, count)
        if maxmemory != "unset":
            limit(client, 0.93 if maxmemory == "near" else 0.995)
        if maxmemory == "reached":  # writes fail
            fill(server, command, 2_000, first=count)
    diagnosis = await judge(server.url, library)
    assert diagnosis.root_cause == cause, diagnosis.summary
    assert (diagnosis.culprit.kind, diagnosis.culprit.name) == culprit
    assert diagnosis.confidence >= 0.5
    assert ("noeviction-oom" in diagnosis.contributing) == (maxmemory == "reached")
    assert diagnosis.claims


@contextlib.contextmanager
def unread_subscriber(server: Server) -> Iterator[None]:
    with socket.socket() as link, contextlib.closing(Redis(port=server.port)) as client:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        link.connect(("127.0.0.1", server.port))
        link.sendall(b"CLIENT SETNAME feed-reader\r\nSUBSCRIBE prices\r\n")
        deadline = time.monotonic() + 5
        while not client.pubsub_numsub("prices")[0][1]:
            assert time.monotonic() < deadline
        pipe = client.pipeline(transaction=False)
        for _ in range(2_000):
            pipe.publish("prices", "x" * 10_000)
        pipe.execute()
        yield


@pytest.mark.parametrize("maxmemory", ["near", "unset"])
async def test_a_subscriber_that_does_not_read(
    maxmemory: str, server: Server, library: Library
) -> None:
    with contextlib.closing(Redis(port=server.port)) as client:
        client.config_set("client-output-buffer-limit", "pubsub 0 0 0")
        with unread_subscriber(server):
            everyday_keys(server)
            if maxmemory == "near":
                limit(client, 0.93)
            diagnosis = await judge(server.url, library, "RedisMemoryHigh")
    assert diagnosis.root_cause == "slow-pubsub-cob", diagnosis.summary
    assert (diagnosis.culprit.kind, diagnosis.culprit.name) == ("client", "feed-reader")
    assert diagnosis.confidence >= 0.7


async def test_a_consumer_that_never_acknowledges(server: Server, library: Library) -> None:
    with contextlib.closing(Redis(port=server.port)) as client:
        everyday_keys(server)
        fill(server, FILLERS["stream"][0], 8_000)
        client.xgroup_create("orders:events", "billing", id="0")
        while client.xreadgroup("billing", "c1", {"orders:events": ">"}, count=2_000):
            pass
        limit(client, 0.93)
    diagnosis = await judge(server.url, library)
    # Before 7.2 a look into the stream would reset its idle time: there, the commands tell.
    assert diagnosis.root_cause == "stream-pel-growth", diagnosis.summary
    assert diagnosis.culprit.name == "orders:events"


HEALTHY = [
    ("empty", ""),
    ("everyday", ""),
    ("everyday", "RedisMemoryHigh"),
    ("no expiry, much room", "RedisMemoryHigh"),
    ("maxmemory unset", ""),
]


@pytest.mark.parametrize(("kind", "alert"), HEALTHY)
async def test_a_healthy_server(kind: str, alert: str, server: Server, library: Library) -> None:
    with contextlib.closing(Redis(port=server.port)) as client:
        if kind != "empty":
            everyday_keys(server)
        if kind == "no expiry, much room":
            fill(server, lambda i: ("SET", f"user:{i}", "u" * 150), 10_000)
        if kind != "maxmemory unset":
            client.config_set("maxmemory", 64 * MIB)
    diagnosis = await judge(server.url, library, alert)
    assert diagnosis.root_cause == "no-incident", diagnosis.summary
    assert not diagnosis.is_incident
    assert not diagnosis.escalate


async def test_a_harmless_big_key(server: Server, library: Library) -> None:
    with contextlib.closing(Redis(port=server.port)) as client:
        everyday_keys(server)
        client.config_set("maxmemory", 256 * MIB)
        fill(server, FILLERS["giant hash"][0], 8_000)
    assert (await judge(server.url, library)).root_cause == "no-incident"


@pytest.mark.parametrize("full", [False, True])
async def test_a_user_that_may_only_run_info(full: bool, server: Server, library: Library) -> None:
    with contextlib.closing(Redis(port=server.port)) as client:
        everyday_keys(server)
        client.config_set("maxmemory", 64 * MIB)
        if full:
            fill(server, session, 10_000)
            limit(client, 0.995)
            fill(server, session, 2_000, first=10_000)
        client.acl_setuser(
            "watcher", enabled=True, passwords=["+secret"], keys=["*"], commands=["+info"]
        )
    url = f"redis://watcher:secret@127.0.0.1:{server.port}"
    diagnosis = await judge(url, library)
    # What INFO alone supports: the condition, and never a cause nobody could see.
    assert diagnosis.root_cause == ("noeviction-oom" if full else "no-incident")
    assert 0.2 < diagnosis.confidence < 0.75
    assert any("bigkeys" in line for line in diagnosis.not_measured)
    assert "secret" not in diagnosis.model_dump_json()


async def test_the_diagnosis_user_needs_nothing_but_the_read_list(
    server: Server, library: Library
) -> None:
    with contextlib.closing(Redis(port=server.port)) as client:
        everyday_keys(server)
        fill(server, session, 10_000)
        limit(client, 0.93)
        client.acl_setuser("oncall", enabled=True, passwords=["+pw"], keys=["*"])
        for name in sorted(READ_COMMANDS):
            with contextlib.suppress(ResponseError):  # a command that this build lacks
                client.acl_setuser("oncall", enabled=True, commands=[f"+{name}"])
    diagnosis = await judge(f"redis://oncall:pw@127.0.0.1:{server.port}", library)
    assert diagnosis.root_cause == "missing-ttl-prefix-leak"
    assert diagnosis.confidence >= 0.8


async def test_a_server_that_is_gone(library: Library) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, and never listening
        port = nobody.getsockname()[1]
        diagnosis = await asyncio.wait_for(judge(f"redis://127.0.0.1:{port}", library), 20)
    assert (diagnosis.root_cause, diagnosis.escalate) == ("unknown", True)
    assert len(diagnosis.not_measured) > 5
