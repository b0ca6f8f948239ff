"""`redis-oncall serve` and `worker` in processes of their own, to be killed and started again."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import redis
import yaml

from agent.incident import Action, Incident
from evals import servers
from evals.pouring import pour
from tests.api.serving import sha256
from tests.api.test_alerts import firing, message
from tests.forked import Forked

PEOPLE = {name: f"roc_{name}01_durable" for name in ("alice", "bob", "vera")}
ROLES = {"alice": "admin", "bob": "admin", "vera": "viewer"}
_UNWANTED = ("DATABASE_URL", "REDIS_ONCALL_QUEUE", "OPENAI_MODEL")


class Oncall:
    """An installation with one target in staging; Alice is its administrator."""

    def __init__(
        self, folder: Path, redis_port: int, policy: Any = None, url: str = "", **env: str
    ) -> None:
        url = url or f"redis://127.0.0.1:{redis_port}"
        target = {
            "name": "cache", "url": url, "environment": "staging", "remedy_url": url,
            "match": {"instance": "cache-eu"},
        }  # fmt: skip
        tokens = [{"name": n, "role": ROLES[n], "sha256": sha256(t)} for n, t in PEOPLE.items()]
        config = folder / "oncall.yaml"
        content = {"targets": [target], "tokens": tokens, "policy": policy or {}}
        config.write_text(yaml.safe_dump(content))
        self._environment = {k: v for k, v in os.environ.items() if k not in _UNWANTED} | {
            "REDIS_ONCALL_CONFIG": str(config), "REDIS_ONCALL_DATA": str(folder / "data"), **env,
        }  # fmt: skip
        self.log = folder / "service.log"
        self.forks_worker = True
        self._service: Forked | None = None
        self.workers: list[Forked] = []
        self.client = httpx2.Client(headers=self.as_person("alice"), timeout=30)

    @staticmethod
    def as_person(name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {PEOPLE[name]}"}

    def _run(self, *arguments: str) -> Forked:
        return Forked(arguments, self._environment, self.log, forks_worker=self.forks_worker)

    def start(self, *options: str) -> None:
        port = servers.free_port()
        self.client.base_url = f"http://127.0.0.1:{port}"
        self._service = self._run("serve", "--port", str(port), *options)
        self.wait(self._answers, "the service answers")

    def start_worker(self) -> None:
        self.workers.append(self._run("worker"))

    def _answers(self) -> bool:
        assert self._service is not None
        assert self._service.poll() is None, self.log.read_text()[-2_000:]
        with contextlib.suppress(httpx2.HTTPError):
            return self.client.get("/healthz").is_success
        return False

    @property
    def pid(self) -> int:
        """Of the service."""
        assert self._service is not None
        return self._service.pid

    def ask_to_stop(self) -> int:
        """SIGTERM, and what the service ends with."""
        assert self._service is not None
        self._service.terminate()
        return self._service.wait(40)

    def kill(self) -> None:
        assert self._service is not None
        self._service.send_signal(signal.SIGKILL)
        self._service.wait()

    def hang_up(self) -> None:
        """SIGHUP: the configuration's tokens have changed."""
        assert self._service is not None
        self._service.send_signal(signal.SIGHUP)

    def kill_worker(self, pid: int) -> None:
        (worker,) = [worker for worker in self.workers if worker.pid == pid]
        worker.send_signal(signal.SIGKILL)
        worker.wait()

    def stop(self) -> None:
        """In order: the service ends by the signal, a worker with 0."""
        self.client.close()
        running = [p for p in (self._service, *self.workers) if p and p.poll() is None]
        for process in running:
            process.terminate()
        try:
            ended = {process.wait(20) for process in running}
        finally:
            for process in running:
                process.kill()
                process.wait()
        assert ended <= {-signal.SIGTERM, 0}

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
        """Ever more seldom asked: it works, too."""
        deadline, pause = time.monotonic() + seconds, 0.05
        while not (found := condition()):
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
            time.sleep(pause)
            pause = min(1.3 * pause, 0.25)
        return found

    def post(self, path: str, body: Any, person: str = "alice") -> Any:
        response = self.client.post(path, json=body, headers=self.as_person(person))
        assert response.is_success, response.text
        return response.json()

    def alert(self, **labels: str) -> str:
        alert = firing()
        alerts = message(alert | {"labels": alert["labels"] | labels})
        (one,) = self.post("/v1/alerts/alertmanager", alerts)["incidents"]
        return str(one["id"])

    def incident(self, incident_id: str) -> Incident:
        response = self.client.get(f"/v1/incidents/{incident_id}")
        assert response.is_success, response.text
        return Incident.model_validate(response.json())

    def action(self, incident_id: str, action_id: str) -> Action:
        actions = self.incident(incident_id).plan.actions
        return next(action for action in actions if action.id == action_id)

    def reaches(self, incident_id: str, *statuses: str) -> Incident:
        def there() -> Incident | None:
            incident = self.incident(incident_id)
            return incident if incident.status in statuses else None

        found: Incident = self.wait(there, f"{incident_id} is {' or '.join(statuses)}")
        return found

    def approve(self, incident_id: str, action: Action, person: str = "alice") -> Any:
        path = f"/v1/incidents/{incident_id}/actions/{action.id}/approve"
        return self.post(path, {"fingerprint": action.fingerprint}, person)

    def reject_rest(self, incident_id: str) -> None:
        for action in self.incident(incident_id).plan.actions:
            if action.executable and action.status == "proposed":
                path = f"/v1/incidents/{incident_id}/actions/{action.id}/reject"
                self.post(path, {"fingerprint": action.fingerprint})


def setting_of(incident: Incident) -> Action:
    """The first change of a setting that the plan offers to carry out."""
    settings = [a for a in incident.plan.actions if a.kind == "set_config" and a.executable]
    assert settings, [(a.kind, a.executable, a.title) for a in incident.plan.actions]
    return settings[0]


def fill(port: int) -> None:
    """Keys without expiry, until the server's memory is full."""
    for start in range(0, 100_000, 500):
        keys = range(start, start + 500)
        if pour(port, (("SET", f"session:{number}", b"x" * 1_000) for number in keys)):
            return


def settings_written(server: servers.Server) -> int:
    with redis.Redis(port=server.port) as client:
        stats = client.info("commandstats")
    return int(stats.get("cmdstat_config|set", {}).get("calls", 0))


def whole(oncall: Oncall, incident: Incident) -> None:
    """Diagnosed, every claim's evidence is there, and the story has no gap."""
    assert incident.diagnosis is not None
    assert incident.diagnosis.root_cause == "missing-ttl-prefix-leak"
    kept = {piece.id for piece in incident.evidence}
    assert kept == {f"E{n}" for n in range(1, len(kept) + 1)}
    cited = {fact.evidence for claim in incident.diagnosis.claims for fact in claim.facts}
    assert cited
    assert cited <= kept
    for evidence_id in sorted(cited)[:3]:
        assert oncall.client.get(f"/v1/incidents/{incident.id}/evidence/{evidence_id}").is_success
    assert [alert.fingerprint for alert in incident.alerts] == ["f1"]
