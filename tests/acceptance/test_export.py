"""From production to the suite: investigated, judged, exported, scored."""

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from redis import Redis

from api.cli.demo import Service, running_service
from evals import servers
from evals.pouring import pour
from evals.truth import incidents
from tests.acceptance.program import run
from tests.acceptance.test_service import alert, until
from tests.forked import Forked

SECRETS = ("s3cret-value", "billing-worker", "invoice:")


@pytest.fixture
def service(start_server: Any, tmp_path: Path) -> Iterator[Service]:
    """Of a server whose memory one prefix without expiry has filled."""
    server: servers.Server = start_server("valkey-9.1", "--maxmemory-policy", "noeviction")
    client = Redis(port=server.port, client_name="billing-worker")
    pour(server.port, (("SET", f"invoice:{i:08x}", "s3cret-value" * 80) for i in range(20_000)))
    pour(server.port, (("SET", f"page:{i}", "y" * 200, "EX", 3_600) for i in range(1_000)))
    client.config_set("maxmemory", int(client.info("memory")["used_memory"] / 0.93))
    with running_service(server, tmp_path, Forked) as running:
        yield running
    client.close()


def oncall(service: Service, *arguments: str) -> Any:
    return run(*arguments, REDIS_ONCALL_URL=service.url, REDIS_ONCALL_TOKEN=service.token)


def wait_for_the_recording(service: Service, incident_id: str) -> None:
    """It is packed when the plan already waits at the gate."""
    path = f"{service.url}/v1/incidents/{incident_id}/recording"
    deadline = time.monotonic() + 30
    while httpx2.get(path, headers=service.headers).status_code == 503:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.usefixtures("close_samples")
@pytest.mark.long
def test_an_incident_becomes_a_recorded_incident_of_a_suite(
    service: Service, tmp_path: Path
) -> None:
    posted = service.request("POST", "/v1/alerts/generic", alert())
    incident_id = posted["incidents"][0]["id"]
    until(service, incident_id, {"awaiting_approval"})
    found = service.incident(incident_id).diagnosis
    assert found is not None
    ours = tmp_path / "ours"

    early = oncall(service, "evals", "export", incident_id, "-o", str(ours))
    assert early.returncode == 1
    assert "give a verdict first" in early.stderr

    judged = oncall(
        service, "verdict", incident_id, "--root-cause", "missing-ttl-prefix-leak",
        "--culprit", "prefix:invoice:", "--comment", "billing-worker sets no expiry",
    )  # fmt: skip
    assert judged.returncode == 0, judged.stderr

    wait_for_the_recording(service, incident_id)
    exported = oncall(service, "evals", "export", incident_id, "-o", str(ours))
    assert exported.returncode == 0, exported.stderr
    (one,) = incidents(directory=ours)
    assert one.truth.root_cause == ["missing-ttl-prefix-leak"]
    assert [(one.culprit.kind, one.culprit.name) for one in [found]] == [("prefix", "invoice:")]
    assert (one.truth.build, one.truth.kind) == ("valkey-9.1", "production")
    assert one.truth.comment == "billing-worker sets no expiry"
    assert one.recording.stat().st_size <= 60_000
    text = gzip.decompress(one.recording.read_bytes()).decode()
    assert "s3cret-value" not in text
    assert "missing-ttl" not in text
    assert json.loads(text.splitlines()[0])["alert"]["name"] == "RedisMemoryCritical"

    replayed = run("replay", str(one.recording), "--json")
    again = json.loads(replayed.stdout)["diagnosis"]
    assert (again["root_cause"], again["culprit"]["name"]) == (found.root_cause, "invoice:")

    hashed = tmp_path / "hashed"
    assert oncall(
        service, "evals", "export", incident_id, "-o", str(hashed), "--hash-names"
    ).returncode == 0  # fmt: skip
    (other,) = incidents(directory=hashed)
    told = gzip.decompress(other.recording.read_bytes()).decode()
    truth = other.recording.with_name(f"{other.id}.truth.yaml").read_text("utf-8")
    assert [word for word in SECRETS if word in told + truth] == []

    for directory in (ours, hashed):
        scored = run("evals", "run", "--directory", str(directory), "--json")
        assert scored.returncode == 0, scored.stderr
        (row,) = json.loads(scored.stdout)["incidents"]
        assert (row["right"], row["culprit"]) == (True, True), row


def test_what_cannot_be_exported_is_told(service: Service, tmp_path: Path) -> None:
    unknown = oncall(service, "evals", "export", "inc-none", "-o", str(tmp_path / "x"))
    assert unknown.returncode == 1
    assert "404" in unknown.stderr
    wrong = oncall(service, "verdict", "inc-none", "--root-cause", "unknown", "--culprit", "me")
    assert wrong.returncode == 2
    assert "KIND:NAME" in wrong.stderr
    refused = httpx2.get(f"{service.url}/v1/incidents/inc-none/recording")
    assert refused.status_code == 401
