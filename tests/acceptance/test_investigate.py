"""`redis-oncall investigate URL --json` names the cause and the culprit, builds in turn."""

import contextlib
import json
import random
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from evals import servers
from evals.pouring import pour
from tests.acceptance.program import run, started

Program = Callable[..., "subprocess.CompletedProcess[str]"]
StartServer = Callable[..., servers.Server]


def investigate(url: str, program: Program = run) -> dict[str, Any]:
    done = program("investigate", url, "--json")
    assert done.returncode == 0, done.stderr
    incident: dict[str, Any] = json.loads(done.stdout)
    return incident


def believable_workload(client: Redis, seed: int) -> None:
    """A few thousand ordinary keys of several prefixes and types, most of them expiring."""
    draw = random.Random(seed)
    pipe = client.pipeline(transaction=False)
    for i in range(2_000):
        pipe.set(f"page:{i}", draw.randbytes(draw.randint(40, 300)), ex=draw.randint(600, 7_200))
    for i in range(300):
        pipe.hset(f"profile:{i}", mapping={f"f{j}": draw.randbytes(20) for j in range(8)})
        pipe.expire(f"profile:{i}", 86_400)
    for i in range(20):
        pipe.rpush(f"jobs:{i}", *[draw.randbytes(30) for _ in range(50)])
        pipe.zadd(f"board:{i}", {f"m{j}": j for j in range(60)})
    pipe.execute()


def fill_hash(client: Redis) -> None:
    for start in range(0, 150_000, 10_000):
        client.hset(
            "catalog:index", mapping={f"sku-{i}": "x" * 60 for i in range(start, start + 10_000)}
        )


def unread_subscriber(server: servers.Server) -> socket.socket:
    """A subscriber named `feed-reader` that never reads what it is sent."""
    link = socket.socket()
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    link.connect(("127.0.0.1", server.port))
    link.sendall(b"CLIENT SETNAME feed-reader\r\nSUBSCRIBE prices\r\n")
    link.settimeout(2.0)
    link.recv(64)
    return link


@contextlib.contextmanager
def faulty(kind: str, start_server: StartServer, build: str) -> Iterator[servers.Server]:
    server = start_server(build, "--maxmemory", "26mb", "--maxmemory-policy", "noeviction")
    client = Redis(port=server.port)
    believable_workload(client, seed=len(kind))
    with contextlib.ExitStack() as stack:
        match kind:
            case "stream":
                fields = "payload", "x" * 120
                pour(
                    server.port,
                    (("XADD", "orders:events", "*", "id", i, *fields) for i in range(60_000)),
                )
            case "giant hash":
                fill_hash(client)
            case "prefix without ttl":
                pour(
                    server.port,
                    (("SET", f"session:{i:08x}", "x" * 200) for i in range(60_000)),
                )
            case "unread subscriber":
                client.config_set("client-output-buffer-limit", "pubsub 0 0 0")
                stack.callback(unread_subscriber(server).close)
                for _ in range(2_000):
                    client.publish("prices", "x" * 10_000)
        used = client.info("memory")["used_memory"]
        # Full, but with room for the workload to go on: set the limit from what is used.
        limit = int(used / 0.93) if kind != "healthy" else used * 3
        client.config_set("maxmemory", limit)
        yield server


CASES = [
    (0, "stream", "stream-unbounded", "stream", "orders:events"),
    (1, "giant hash", "single-bigkey", "key", "catalog:index"),
    (2, "prefix without ttl", "missing-ttl-prefix-leak", "prefix", "session:"),
    (3, "unread subscriber", "slow-pubsub-cob", "client", "feed-reader"),
    (4, "healthy", "no-incident", "none", ""),
]


@pytest.mark.parametrize(("place", "kind", "cause", "culprit_kind", "culprit"), CASES)
def test_cause_and_culprit(
    place: int, kind: str, cause: str, culprit_kind: str, culprit: str, start_server: StartServer
) -> None:
    """Builds in turn: tests/agent/test_rules_live.py has each of these on all of them."""
    build = servers.BUILDS[place % len(servers.BUILDS)]
    with faulty(kind, start_server, build) as server:
        incident = investigate(server.url)
    diagnosis = incident["diagnosis"]
    assert diagnosis["root_cause"] == cause, diagnosis["summary"]
    assert diagnosis["culprit"] == {"kind": culprit_kind, "name": culprit}
    assert diagnosis["is_incident"] is (kind != "healthy")
    facts = [fact for claim in diagnosis["claims"] for fact in claim["facts"]]
    assert facts or kind == "healthy"
    assert {fact["evidence"] for fact in facts} <= {e["id"] for e in incident["evidence"]}
    expected = "resolved" if kind == "healthy" else ("awaiting_approval", "needs_human")
    assert incident["status"] in expected


def test_a_user_that_may_only_run_info_still_gets_an_answer(start_server: StartServer) -> None:
    with faulty("prefix without ttl", start_server, servers.BUILDS[-1]) as server:
        Redis(port=server.port).execute_command(  # type: ignore[no-untyped-call]
            "ACL", "SETUSER", "looker", "on", ">a-secret-word", "nocommands", "+info", "+auth"
        )
        incident = investigate(f"redis://looker:a-secret-word@127.0.0.1:{server.port}")
    diagnosis = incident["diagnosis"]
    assert diagnosis["not_measured"]
    assert diagnosis["confidence"] < 0.8
    assert incident["ended_because"] or incident["status"] == "awaiting_approval"
    assert "a-secret-word" not in json.dumps(incident)


def test_an_unreachable_target_is_answered_not_crashed_upon() -> None:
    port = servers.free_port()
    incident = investigate(f"redis://user:a-secret-word@127.0.0.1:{port}", started)
    assert incident["diagnosis"]["root_cause"] == "unknown"
    assert incident["diagnosis"]["escalate"] is True
    assert incident["status"] == "needs_human"
    assert incident["ended_because"]
    assert "a-secret-word" not in json.dumps(incident)


def test_what_is_no_url_and_no_target_is_a_usage_error() -> None:
    done = started("investigate", "nonsense", "--json")
    assert done.returncode == 2
    assert "neither a redis://" in done.stderr
    assert done.stdout == ""
