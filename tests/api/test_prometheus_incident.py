"""A whole incident with Prometheus: an alert, and evidence of days and of the host.

Redis, its exporter, node_exporter, Prometheus and `redis-oncall serve` are real. The days before
are backfilled, and so is the container: cAdvisor is in no Debian package.
"""

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis
import yaml

from agent.incident import Incident
from agent.runbook_library import load_library
from evals import servers
from evals.run import diagnose
from evals.truth import RecordedIncident, Truth
from tests.api.process import Oncall
from tests.api.real_prometheus import Sample, node_exporter, redis_exporter, running
from tests.api.test_alerts import firing, message

MIB = 1 << 20
STEP = 300
WEEK = 7 * 24 * 3_600
TOKEN = "prom-t0ken-s3cr3t"
ALERT = firing(
    labels={"alertname": "ContainerMemoryHigh", "instance": "cache-eu", "severity": "critical"},
    annotations={"summary": "the container's memory is near its limit"},
)


def back(now: int, of: Any) -> list[Sample]:
    """`of` the seconds before now."""
    return [(now - ago, of(ago)) for ago in range(WEEK, -1, -STEP)]


@pytest.fixture
def ill(tmp_path: Path) -> Iterator[Oncall]:
    """No maxmemory, in a container that it nearly fills; clients doubled three hours ago."""
    path = servers.binary(servers.BUILDS[1])
    if path is None:
        pytest.skip(f"{servers.BUILDS[1]} is not installed here (Debian package redis-server)")
    server = servers.start(servers.BUILDS[1], path)
    try:
        with redis.Redis(port=server.port) as client:
            for n in range(4_000):
                client.set(f"user:{n}", b"x" * 4_000, ex=86_400)
            used = int(client.info("memory")["used_memory"])
        with (
            redis_exporter(tmp_path, server.url) as exporter,
            node_exporter(tmp_path) as node,
        ):
            now = int(time.time())
            at = f'instance="{exporter}",job="redis"'
            pod = 'container="redis",namespace="shop",pod="cache-1"'
            past = {
                f"redis_memory_used_bytes{{{at}}}": back(now, lambda ago: used - 20 * ago),
                f"redis_connected_clients{{{at}}}": back(
                    now, lambda ago: 80 if ago < 3 * 3_600 else 40
                ),
                f"container_spec_memory_limit_bytes{{{pod}}}": back(now, lambda _: used * 1.15),
                f"container_memory_working_set_bytes{{{pod}}}": back(now, lambda _: used * 1.1),
                f"container_oom_events_total{{{pod}}}": back(now, lambda _: 0),
            }
            jobs = {"redis": exporter, "node": node}
            with running(tmp_path, past, jobs) as prometheus:
                oncall = Oncall(tmp_path, server.port)
                oncall.wait(lambda: knows(prometheus, "node_vmstat_pswpin"), "both are scraped")
                oncall.wait(lambda: knows(prometheus, "redis_up"), "both are scraped")
                _configure(tmp_path / "oncall.yaml", prometheus, exporter, node)
                try:
                    yield oncall
                finally:
                    oncall.stop()
    finally:
        servers.stop(server)


def knows(prometheus: str, metric: str) -> bool:
    """Whether the metric was scraped by now."""
    found = httpx2.get(
        f"{prometheus}/api/v1/query", params={"query": metric}, trust_env=False
    ).json()
    return bool(found["data"]["result"])


def _configure(file: Path, prometheus: str, exporter: str, node: str) -> None:
    content = yaml.safe_load(file.read_text())
    content["prometheus"] = {"url": prometheus, "token": TOKEN}
    content["targets"][0] |= {
        "series": {"instance": exporter},
        "host_series": {"instance": node},
        "container_series": {"namespace": "shop", "pod": "cache-1", "container": "redis"},
    }
    file.write_text(yaml.safe_dump(content))


def reading(oncall: Oncall, incident: Incident, tool: str) -> dict[str, Any]:
    (piece,) = [piece for piece in incident.evidence if piece.tool == tool]
    response = oncall.client.get(f"/v1/incidents/{incident.id}/evidence/{piece.id}")
    assert response.is_success
    found = response.json()
    assert found["measured"], found
    whole: dict[str, Any] = found["reading"]
    return whole


@pytest.mark.long
async def test_an_incident_shows_its_history_and_its_host_and_so_does_its_replay(
    ill: Oncall, tmp_path: Path
) -> None:
    ill.start()
    (opened,) = ill.post("/v1/alerts/alertmanager", message(ALERT))["incidents"]
    incident = ill.reaches(opened["id"], "awaiting_approval", "needs_human", "closed")

    history = reading(ill, incident, "metric_history")
    assert history["source"] == "Prometheus"
    (step,) = history["metrics"]["connected_clients"]["changes"]
    assert (step["before"], step["after"]) == (40, 80)
    assert history["growth"]["bytes_per_day"] == pytest.approx(20 * 86_400, rel=0.1)
    host = reading(ill, incident, "host")
    assert host["memory_total_bytes"] > 0
    assert host["container_working_set_bytes"] < host["container_limit_bytes"]

    diagnosis = incident.diagnosis
    assert diagnosis is not None
    assert diagnosis.root_cause == "maxmemory-unset"
    assert any("The container holds" in claim.text for claim in diagnosis.claims)
    assert TOKEN not in incident.model_dump_json() + ill.log.read_text()

    replayed, seen = await diagnose(exported(ill, incident, tmp_path), load_library())
    (again,) = [piece for piece in seen if piece.tool == "metric_history"]
    assert again.reading == history
    (also,) = [piece for piece in seen if piece.tool == "host"]
    assert also.reading == host
    assert replayed.diagnosis is not None
    assert replayed.diagnosis.root_cause == diagnosis.root_cause
    assert replayed.diagnosis.confidence == diagnosis.confidence


def exported(oncall: Oncall, incident: Incident, folder: Path) -> RecordedIncident:
    oncall.post(f"/v1/incidents/{incident.id}/verdict", {"root_cause": "maxmemory-unset"})
    path = f"/v1/incidents/{incident.id}/recording"
    found = oncall.wait(
        lambda: one if (one := oncall.client.get(path)).is_success else None, "it is kept"
    )
    assert TOKEN.encode() not in found.content
    file = folder / "case.jsonl.gz"
    file.write_bytes(base64.b64decode(found.json()["recording"]))
    truth = Truth(
        root_cause=["maxmemory-unset"], culprit=[], contributing=[], is_incident=True,
        fault="as it was", build=servers.BUILDS[1], seed=0,
    )  # fmt: skip
    return RecordedIncident(id=incident.id, recording=file, truth=truth)
