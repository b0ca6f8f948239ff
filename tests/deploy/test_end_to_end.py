"""From a server that fills up to a closed incident, through the real programs and our files."""

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from agent.incident import Incident
from evals import servers
from tests.api.process import PEOPLE, Oncall
from tests.api.serving import sha256
from tests.deploy.monitoring import (
    DEPLOY,
    EXPORTER,
    Monitoring,
    Program,
    metrics,
    missing,
    shipped,
    wait,
)

WEBHOOK_TOKEN = "roc_alertmanager_endtoend"
README = (DEPLOY / "README.md").read_text()
ALERTS = ["RedisMemoryCritical", "RedisMemoryHigh"]
pytestmark = pytest.mark.skipif(
    bool(missing()), reason=f"not installed here: {', '.join(missing())} (Debian packages)"
)


@pytest.fixture
def target(start_server: Callable[..., servers.Server]) -> servers.Server:
    return start_server("valkey-9.1", "--maxmemory", "24mb", "--maxmemory-policy", "noeviction")


@pytest.fixture
def oncall(tmp_path: Path, target: servers.Server) -> Iterator[Oncall]:
    """The service, with the configuration we ship and the target's address in it."""
    oncall = Oncall(
        tmp_path, target.port,
        ADMIN_TOKEN_SHA256=sha256(PEOPLE["alice"]),
        ALERTMANAGER_TOKEN_SHA256=sha256(WEBHOOK_TOKEN),
    )  # fmt: skip
    config = (DEPLOY / "redis-oncall.yaml").read_text()
    (tmp_path / "oncall.yaml").write_text(config.replace("redis://target:6379", target.url))
    try:
        oncall.start()
        yield oncall
    finally:
        oncall.stop()


@pytest.fixture
def monitoring(tmp_path: Path, target: servers.Server, oncall: Oncall) -> Iterator[Monitoring]:
    monitoring = Monitoring(
        tmp_path, target.url, str(oncall.client.base_url).rstrip("/"), WEBHOOK_TOKEN
    )
    try:
        monitoring.start()
        yield monitoring
    finally:
        monitoring.stop()


@pytest.fixture
def writer(target: servers.Server) -> Iterator[Callable[[], None]]:
    """`writer()` lets the program with the mistake loose on the server."""
    running: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        command = [sys.executable, "-m", "tests.deploy.writer", target.url, "0.88"]
        running.append(subprocess.Popen(command, cwd=DEPLOY.parents[1]))

    yield start
    for process in running:
        process.kill()
        process.wait()


def incidents(oncall: Oncall) -> list[Incident]:
    items = oncall.client.get("/v1/incidents").json()["items"]
    return [oncall.incident(item["id"]) for item in items]


@pytest.mark.timeout(240)
@pytest.mark.long
def test_a_leak_fills_the_memory_and_the_incident_ends_when_the_alert_does(
    target: servers.Server,
    oncall: Oncall,
    monitoring: Monitoring,
    writer: Callable[[], None],
) -> None:
    assert incidents(oncall) == []
    writer()

    (opened,) = wait(lambda: incidents(oncall), "Alertmanager has called")
    incident = oncall.reaches(opened.id, "awaiting_approval")
    assert incident.target == "target", "the exporter's instance label, through `match`"
    assert incident.diagnosis is not None
    assert incident.diagnosis.root_cause == "missing-ttl-prefix-leak"
    assert (incident.diagnosis.culprit.kind, incident.diagnosis.culprit.name) == (
        "prefix", "session:",
    )  # fmt: skip

    pair = monitoring.alertmanagers
    assert [one.members() for one in pair] == [2, 2]
    for one in pair:
        one.end(signal.SIGKILL)
    for one in pair:
        one.start_alone()
    for one in pair:
        wait(one.calls, "both have called, the same again")
    (same,) = incidents(oncall)
    assert same.id == incident.id
    assert sorted(alert.name for alert in same.alerts) == ALERTS

    relief = [action for action in same.plan.actions if action.executable]
    assert [action.kind for action in relief] == ["set_config", "expire_prefix"]
    oncall.post(
        f"/v1/incidents/{same.id}/plan/approve",
        {"actions": [{"id": a.id, "fingerprint": a.fingerprint} for a in relief], "comment": "go"},
    )
    oncall.reaches(same.id, "resolved")
    assert {a.status for a in oncall.incident(same.id).plan.actions if a.executable} == {"verified"}
    with redis.Redis(port=target.port) as client:
        assert client.ttl("session:0") > 0

    def is_over() -> bool:
        return {alert.status for alert in oncall.incident(same.id).alerts} == {"resolved"}

    wait(is_over, "the alerts are over, through Prometheus and Alertmanager")
    assert monitoring.alerts() == set()
    (ended,) = incidents(oncall)
    assert ended.status in ("resolved", "closed")
    assert all(alert.ends_at for alert in ended.alerts)


def test_every_metric_of_the_rules_is_told_to_the_exporters_own_user(
    build: str, tmp_path: Path, start_server: Callable[..., servers.Server]
) -> None:
    lines = re.search(r"redis-cli (ACL SETUSER .*?)\nREDIS_USER", README, re.DOTALL)
    assert lines is not None
    user = shlex.split(lines[1].replace("\\\n", ""))
    primary = start_server(build, "--appendonly", "yes", "--repl-diskless-sync-delay", "0")
    replica = start_server(build, "--replicaof", "127.0.0.1", str(primary.port))
    port = servers.free_port()
    address = f"http://127.0.0.1:{port}"
    exporter = Program(
        tmp_path, EXPORTER, f"{address}/", "-redis.addr=", "-redis.user=exporter",
        "-redis.password=PASSWORD", f"-web.listen-address=127.0.0.1:{port}",
    )  # fmt: skip
    with redis.Redis(port=replica.port) as second, redis.Redis(port=primary.port) as first:
        wait(lambda: second.info("replication")["master_link_status"] == "up", "it follows")
        wait(lambda: first.info("replication")["slave0"]["state"] == "online", "it is known to")
        with pytest.raises(redis.ReadOnlyError):
            second.set("a", 1)
        told = set()
        exporter.start()
        try:
            for server, client in ((primary, first), (replica, second)):
                client.execute_command(*user)
                series = metrics(f"{address}/scrape?target={server.url}")
                assert series["redis_up"] == 1
                assert client.acl_log() == []
                told |= {name.partition("{")[0] for name in series}
        finally:
            exporter.end()
    rules = [rule for group in shipped("redis-alerts.yml")["groups"] for rule in group["rules"]]
    asked = {name for rule in rules for name in re.findall(r"\bredis_\w+", rule["expr"])}
    assert asked - told == set()
