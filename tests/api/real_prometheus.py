"""A real Prometheus on loopback with a past of our choosing, and exporters for it to scrape."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx2
import pytest

from evals.servers import free_port

START_SECONDS = 30

Sample = tuple[int, float]
"""Seconds of the epoch, and a value."""


def program(name: str, package: str) -> str:
    """Its path. Skips the test where the Debian package is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} is installed here (Debian package {package})")
    return found


def openmetrics(series: Mapping[str, Sequence[Sample]]) -> str:
    """The exposition format that `promtool` reads: by `name{label="value"}`, with times."""
    lines: list[str] = []
    for name in sorted({one.partition("{")[0] for one in series}):
        kind = "counter" if name.endswith("_total") else "gauge"
        lines.append(f"# TYPE {name.removesuffix('_total')} {kind}")
        for one, samples in series.items():
            if one.partition("{")[0] == name:
                lines += [f"{one} {value!r} {at}" for at, value in samples]
    return "\n".join([*lines, "# EOF"]) + "\n"


@contextlib.contextmanager
def running(
    folder: Path, past: Mapping[str, Sequence[Sample]], scraped: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Its URL. `scraped`: job names and `host:port` that it reads every second from now on."""
    server, tool = program("prometheus", "prometheus"), program("promtool", "prometheus")
    jobs = "".join(
        f"  - job_name: {job}\n    static_configs: [{{targets: ['{address}']}}]\n"
        for job, address in (scraped or {}).items()
    )
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        + (f"scrape_configs:\n{jobs}" if jobs else "")
    )
    (folder / "past.om").write_text(openmetrics(past))
    if past:
        subprocess.run(
            [tool, "tsdb", "create-blocks-from", "--max-block-duration=960h", "openmetrics",
             "past.om", "data"],
            cwd=folder, check=True, capture_output=True, timeout=60,
        )  # fmt: skip
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        server, "--config.file=prometheus.yml", "--storage.tsdb.path=data",
        f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=90d",
    ]  # fmt: skip
    with _process(command, folder, f"{url}/-/ready"):
        yield url


@contextlib.contextmanager
def redis_exporter(folder: Path, redis_url: str) -> Iterator[str]:
    """Its `host:port`."""
    with _exporter(
        program("prometheus-redis-exporter", "prometheus-redis-exporter"),
        ["-redis.addr", redis_url, "-web.listen-address"],
        folder,
    ) as address:
        yield address


@contextlib.contextmanager
def node_exporter(folder: Path) -> Iterator[str]:
    """Its `host:port`."""
    name = "prometheus-node-exporter"
    with _exporter(program(name, name), ["--web.listen-address"], folder) as address:
        yield address


@contextlib.contextmanager
def _exporter(path: str, arguments: Sequence[str], folder: Path) -> Iterator[str]:
    address = f"127.0.0.1:{free_port()}"
    with _process([path, *arguments, address], folder, f"http://{address}/metrics"):
        yield address


@contextlib.contextmanager
def _process(command: Sequence[str], folder: Path, ready: str) -> Iterator[None]:
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(ready):
            assert process.poll() is None, f"{command[0]} did not start"
            assert time.monotonic() < deadline, f"{command[0]} did not start in time"
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, trust_env=False, timeout=5).status_code == 200
    except httpx2.HTTPError:
        return False
