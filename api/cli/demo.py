"""The whole way of an incident on this machine: a real server, a real fault, a real alert.

Everything runs in child processes and one temporary folder; nothing of it is left behind.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import httpx2
import typer
import yaml
from rich.console import Console

from agent.incident import Action, Incident
from api.cli import render
from api.cli.oneshot import failure
from evals import servers
from evals.faults import FAULTS, Fault

DEFAULT = "missing-ttl-prefix-leak"
START_SECONDS = 120.0
DIAGNOSIS_SECONDS = 60.0
REMEDY_SECONDS = 120.0
STAY_SECONDS = 3_600.0
SEED = 7
_ALERT = {
    "alertname": "RedisMemoryCritical",
    "severity": "critical",
    "instance": "demo-redis",
}


@dataclass(frozen=True)
class Service:
    """The service under demonstration."""

    url: str
    token: str

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One request as the demo's administrator."""
        response = httpx2.request(
            method, self.url + path, json=body, headers=self.headers, timeout=30.0
        )
        response.raise_for_status()
        return response.text if path.endswith("/report") else response.json()

    @property
    def headers(self) -> dict[str, str]:
        """The bearer token."""
        return {"Authorization": f"Bearer {self.token}"}

    def incident(self, incident_id: str) -> Incident:
        """The incident as it stands."""
        return Incident.model_validate(self.request("GET", f"/v1/incidents/{incident_id}"))


def run(scenario: str, *, approve: bool, keep: bool) -> None:
    """Play one scenario; `list` names them. `keep`: stay until Ctrl-C, for a browser."""
    if scenario == "list":
        for name, known in FAULTS.items():
            typer.echo(f"{name:28} {known.story}")
        return
    fault = FAULTS.get(scenario or DEFAULT)
    if fault is None:
        raise failure(f"SCENARIO: '{scenario}' is not one of {', '.join(FAULTS)}", code=2)
    try:
        build, binary = servers.demo_binary()
    except LookupError as error:
        raise failure(str(error)) from None
    # A stopped demo must clean up as a finished one does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="redis-oncall-demo-"))
    try:
        _play(fault, build, binary, folder, approve=approve, keep=keep)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _play(
    fault: Fault, build: str, binary: Path, folder: Path, *, approve: bool, keep: bool
) -> None:
    out = render.console()
    with contextlib.ExitStack() as stack:
        server = servers.start(build, binary, fault.arguments_for(build))
        stack.callback(servers.stop, server)
        out.print(f"1. A real server ({build}) listens on 127.0.0.1:{server.port}.")
        with out.status("putting a workload and a fault on it"):
            stack.enter_context(fault.prepare(server, SEED))
        out.print(f"2. {fault.story}", markup=False)
        with out.status("starting the service"):
            service = stack.enter_context(running_service(server, folder))
        out.print(f"3. The service listens on {service.url}.")
        started = time.monotonic()
        posted = service.request("POST", "/v1/alerts/alertmanager", _webhook(fault))
        incident_id = posted["incidents"][0]["id"]
        out.print(f"4. Alertmanager's webhook was accepted as incident {incident_id}.\n")
        incident = _follow(service, incident_id, out)
        out.print(f"\n5. Diagnosed {time.monotonic() - started:.1f} s after the webhook.\n")
        out.print(render.incident(incident))
        if approve or not keep:
            _at_the_gate(service, incident, fault, out, approve=approve)
        if keep:
            _stay(service, incident, out)


def _stay(service: Service, incident: Incident, out: Console) -> None:
    """The console, for as long as somebody wants to look."""
    out.print(f"\nIn a browser:  {service.url}/incidents/{incident.id}", soft_wrap=True)
    out.print(f"Sign in with:  {service.token}", soft_wrap=True)
    out.print("It stays until you press Ctrl-C.")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(STAY_SECONDS)


def _webhook(fault: Fault) -> dict[str, Any]:
    """An Alertmanager v4 message as Alertmanager 0.28 sends it."""
    labels = _ALERT | fault.alert_labels
    alert = {
        "status": "firing",
        "labels": labels,
        "annotations": {"summary": fault.alert_summary},
        "startsAt": datetime.now(UTC).isoformat(),
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example/graph",
        "fingerprint": hashlib.sha256(json.dumps(labels).encode()).hexdigest()[:16],
    }
    return {
        "version": "4",
        "groupKey": f'{{}}:{{alertname="{labels["alertname"]}"}}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "redis-oncall",
        "groupLabels": {"alertname": labels["alertname"]},
        "commonLabels": labels,
        "commonAnnotations": alert["annotations"],
        "externalURL": "http://alertmanager.example",
        "alerts": [alert],
    }


class Process(Protocol):
    """Of `subprocess.Popen` what is used here."""

    def poll(self) -> int | None:
        """What it ended with, or None."""

    def wait(self, timeout: float | None = None) -> int:
        """What it ends with. Raises subprocess.TimeoutExpired."""

    def terminate(self) -> None:
        """SIGTERM."""

    def kill(self) -> None:
        """SIGKILL."""


Start = Callable[[Sequence[str], Mapping[str, str], Path], Process]
"""The program with these arguments, in this environment, with this log."""


def start_program(
    arguments: Sequence[str], environment: Mapping[str, str], log: Path
) -> "subprocess.Popen[bytes]":
    """`redis-oncall …` as a child process."""
    with log.open("wb") as written:
        return subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "api.cli", *arguments],
            env=environment, stdin=subprocess.DEVNULL, stdout=written, stderr=written,
        )  # fmt: skip


@contextlib.contextmanager
def running_service(
    server: servers.Server, folder: Path, start: Start = start_program
) -> Iterator[Service]:
    """`redis-oncall serve` as a child process, with its own configuration and database."""
    token = f"roc_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"
    config = {
        "targets": [
            {
                "name": "demo-redis",
                "url": server.url,
                "remedy_url": server.url,
                "environment": "staging",
                "match": {"instance": "demo-redis"},
            }
        ],
        "tokens": [
            {
                "name": "demo",
                "role": "admin",
                "sha256": hashlib.sha256(token.encode()).hexdigest(),
            }
        ],
    }
    path = folder / "redis-oncall.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    port = servers.free_port()
    environment = os.environ | {
        "REDIS_ONCALL_CONFIG": str(path),
        "REDIS_ONCALL_DATA": str(folder),
    }
    environment.pop("DATABASE_URL", None)
    environment.pop("REDIS_ONCALL_QUEUE", None)
    log = folder / "service.log"
    process = start(["serve", "--port", str(port)], environment, log)
    service = Service(f"http://127.0.0.1:{port}", token)
    try:
        _wait_until_ready(service, process, log)
        yield service
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(service: Service, process: Process, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx2.HTTPError):
            if httpx2.get(service.url + "/readyz", timeout=1.0).is_success:
                return
        time.sleep(0.05)
    raise failure("the service did not start; its log ends with:\n" + log.read_text()[-1_500:])


def _follow(service: Service, incident_id: str, out: Console) -> Incident:
    """Print the investigation as it happens, until it reaches the gate or its end."""
    deadline = time.monotonic() + DIAGNOSIS_SECONDS
    kind = ""
    with httpx2.stream(
        "GET",
        f"{service.url}/v1/incidents/{incident_id}/events",
        headers=service.headers,
        timeout=DIAGNOSIS_SECONDS,
    ) as stream:
        for line in stream.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                data = json.loads(value)
                _print_event(kind, data, out)
                if kind == "end" or data.get("status") == "awaiting_approval":
                    break
            if time.monotonic() > deadline:
                raise failure(f"no diagnosis within {DIAGNOSIS_SECONDS:.0f} s")
    return service.incident(incident_id)


def _print_event(kind: str, data: dict[str, Any], out: Console) -> None:
    lines = []
    if kind == "evidence":
        lines = [f"   {data['id']:>4} {data['tool']:<17} {data['summary']}"]
    elif kind == "status":
        lines = [f"   threshold crossed, {text}" for text in data.get("thresholds", [])]
    for line in lines:
        shown = line if len(line) <= render.WIDTH else line[: render.WIDTH - 1] + "…"
        out.print(shown, markup=False, soft_wrap=True)


def _at_the_gate(
    service: Service, incident: Incident, fault: Fault, out: Console, *, approve: bool
) -> None:
    offered = [action for action in incident.plan.actions if action.executable]
    if not offered:
        out.print(f"\nNothing was changed: it ended as '{incident.status}',")
        out.print(f"because {incident.ended_because}.", markup=False)
        return
    first = next((action for action in offered if action.kind in fault.try_first), offered[0])
    if not approve:
        out.print(f"\nNothing was changed: the plan waits for approval ({first.id} first).")
        again = f"make demo SCENARIO={fault.id} APPROVE=1"
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            out.print(f"To approve it: {again}   (in production: redis-oncall approve)")
            return
        if not typer.confirm(f"Approve {first.id} ({first.title})?"):
            out.print(f"Not approved. Another time: {again}")
            return
    out.print(f"\n6. Approving {first.id}: {first.title}", markup=False)
    service.request(
        "POST",
        f"/v1/incidents/{incident.id}/actions/{first.id}/approve",
        {"fingerprint": first.fingerprint, "comment": "demo"},
    )
    done = _watch(service, incident.id, first.id, out)
    out.print(f"7. {done.id} is {done.status.replace('_', ' ')}. {done.comment}\n", markup=False)
    out.print(service.request("GET", f"/v1/incidents/{incident.id}/report"), markup=False)


def _watch(service: Service, incident_id: str, action_id: str, out: Console) -> Action:
    """Wait until the action is verified, rolled back or settled otherwise."""
    deadline = time.monotonic() + REMEDY_SECONDS
    working = ("approved", "applying", "applied", "rolling_back")
    with out.status("applying, then verifying on the live server"):
        while True:
            actions = service.incident(incident_id).plan.actions
            action = next(a for a in actions if a.id == action_id)
            if action.status not in working:
                return action
            if time.monotonic() > deadline:
                raise failure(f"{action_id} was still {action.status} after {REMEDY_SECONDS:.0f} s")
            time.sleep(0.2)
