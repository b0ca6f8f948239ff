"""redis_exporter, Prometheus and Alertmanagers, as processes, with the files that we ship.

Of those only addresses and times are other: a scrape every second, and alerts that wait seconds.
"""

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import yaml

from evals.servers import free_port

DEPLOY = Path(__file__).parents[2] / "api" / "deploy"
EXPORTER, PROMETHEUS, ALERTMANAGER = (
    "prometheus-redis-exporter", "prometheus", "prometheus-alertmanager",
)  # fmt: skip
RESEND = "3s"
"""Between two reports of an alert to Alertmanager, which takes it as over after four of them."""


def shipped(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def missing() -> list[str]:
    """The programs that are not installed here."""
    return [name for name in (EXPORTER, PROMETHEUS, ALERTMANAGER) if shutil.which(name) is None]


class Program:
    """One of them, on free ports."""

    def __init__(self, folder: Path, name: str, ready: str, *arguments: str) -> None:
        self._log = folder / f"{name}.log"
        self._arguments, self._ready, self._folder = [name, *arguments], ready, folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait(self._is_ready, f"{self._arguments[0]} is ready")

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()[-2_000:]
        with contextlib.suppress(httpx2.HTTPError):
            return httpx2.get(self._ready, trust_env=False).is_success
        return False

    def end(self, with_signal: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(with_signal)
            self._process.wait(20)
            self._process = None


class Alertmanager(Program):
    """One of a pair that tell each other what they have sent."""

    def __init__(self, folder: Path, web: int, own: int, other: int) -> None:
        folder.mkdir()
        self.url = f"http://127.0.0.1:{web}"
        super().__init__(
            folder, ALERTMANAGER, f"{self.url}/-/ready", "--config.file=../alertmanager.yml",
            f"--web.listen-address=127.0.0.1:{web}", f"--cluster.listen-address=127.0.0.1:{own}",
            f"--cluster.advertise-address=127.0.0.1:{own}", f"--cluster.peer=127.0.0.1:{other}",
            "--cluster.gossip-interval=20ms", "--storage.path=data",
        )  # fmt: skip

    def start_alone(self) -> None:
        """With no memory, and cut off from the other: each calls for itself."""
        shutil.rmtree(self._folder / "data")
        self._arguments = [a for a in self._arguments if not a.startswith("--cluster.peer=")]
        self.start()

    def calls(self) -> int:
        """How often it has called the service since its start, successfully each time."""
        figures = metrics(f"{self.url}/metrics")
        assert figures['alertmanager_notifications_failed_total{integration="webhook"}'] == 0
        return int(figures['alertmanager_notifications_total{integration="webhook"}'])

    def members(self) -> int:
        """How many the pair has, as far as it knows."""
        return int(metrics(f"{self.url}/metrics")["alertmanager_cluster_members"])


class Monitoring:
    """The alert path from one server to the service's webhook."""

    def __init__(self, folder: Path, redis_url: str, service: str, token: str) -> None:
        exporter, prometheus, *others = (free_port() for _ in range(6))
        webs, clusters = others[:2], others[2:]
        self.prometheus_url = f"http://127.0.0.1:{prometheus}"
        (folder / "token").write_text(token)
        configure(
            folder, redis_url, f"127.0.0.1:{exporter}", [f"127.0.0.1:{web}" for web in webs],
            f"{service}/v1/alerts/alertmanager",
        )  # fmt: skip
        self.alertmanagers = [
            Alertmanager(folder / f"alertmanager-{n}", webs[n], clusters[n], clusters[1 - n])
            for n in (0, 1)
        ]
        self._programs = [
            Program(
                folder, EXPORTER, f"http://127.0.0.1:{exporter}/", "-redis.addr=",
                f"-web.listen-address=127.0.0.1:{exporter}",
            ),
            *self.alertmanagers,
            Program(
                folder, PROMETHEUS, f"{self.prometheus_url}/-/ready",
                "--config.file=prometheus.yml", f"--rules.alert.resend-delay={RESEND}",
                "--storage.tsdb.path=data", f"--web.listen-address=127.0.0.1:{prometheus}",
            ),
        ]  # fmt: skip

    def start(self) -> None:
        for program in self._programs:
            program.start()

    def stop(self) -> None:
        for program in reversed(self._programs):
            program.end()

    def alerts(self) -> set[tuple[str, str]]:
        """What Prometheus shows: names and states of its alerts."""
        shown = httpx2.get(f"{self.prometheus_url}/api/v1/alerts", trust_env=False).json()
        return {(one["labels"]["alertname"], one["state"]) for one in shown["data"]["alerts"]}


def configure(
    folder: Path, redis_url: str, exporter: str, alertmanagers: list[str], webhook: str
) -> None:
    """The shipped files with other addresses and times, as a user edits them."""
    prometheus = shipped("prometheus.yml")
    prometheus["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    prometheus["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": alertmanagers}]}]
    (scrape,) = [job for job in prometheus["scrape_configs"] if job["job_name"] == "redis"]
    scrape["static_configs"] = [{"targets": [redis_url]}]
    scrape["relabel_configs"][-1]["replacement"] = exporter
    prometheus["scrape_configs"], prometheus["rule_files"] = [scrape], ["redis-alerts.yml"]
    rules = shipped("redis-alerts.yml")
    for rule in rules["groups"][0]["rules"][:2]:
        rule["for"] = "2s"
    alertmanager = shipped("alertmanager.yml")
    alertmanager["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    (hook,) = alertmanager["receivers"][0]["webhook_configs"]
    hook["url"] = webhook
    hook["http_config"]["authorization"]["credentials_file"] = str(folder / "token")
    for name, content in (
        ("prometheus.yml", prometheus), ("redis-alerts.yml", rules),
        ("alertmanager.yml", alertmanager),
    ):  # fmt: skip
        (folder / name).write_text(yaml.safe_dump(content))


def metrics(url: str) -> dict[str, float]:
    """Series -> value."""
    lines = httpx2.get(url, trust_env=False, timeout=20).text.splitlines()
    found = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {series: float(value) for series, _, value in found}


def wait(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return found
