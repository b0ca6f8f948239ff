"""A target's host and container: real exporters where there are packages, and lies.

cAdvisor is in no Debian package: what it says is backfilled into a real Prometheus, in the names,
types and labels of its documentation (google/cadvisor, docs/storage/prometheus.md).
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
import respx
import yaml
from typer.testing import CliRunner

from api.cli.main import app
from api.config import TargetEntry
from api.past import Past
from api.prometheus_host import CONTAINER, NODE, facts
from api.settings import Settings
from api.sizing_config import PrometheusEntry
from api.store.database import Database
from tests.api.real_prometheus import Sample, node_exporter, running
from tests.api.test_prometheus_history import answering
from tools.host import Host, HostFacts, told
from tools.reading import NotMeasured

MIB = 1 << 20
GIB = 1 << 30
ASKED = "http://prometheus.example:9090/api/v1/query_range"
POD = 'container="redis",id="/kubepods/pod1/abc",namespace="shop",pod="cache-1"'
MACHINE = 'instance="node-1:9100",job="node"'


def entry(url: str = "http://prometheus.example:9090", **more: Any) -> PrometheusEntry:
    return PrometheusEntry.model_validate({"url": url, **more})


def target(**more: Any) -> TargetEntry:
    return TargetEntry.model_validate({"name": "cache-1", "url": "redis://127.0.0.1:1", **more})


ON_NODE = {"host_series": {"instance": "node-1:9100"}}
IN_POD = {"container_series": {"namespace": "shop", "pod": "cache-1", "container": "redis"}}


def minutes(of: Callable[[int], float]) -> list[Sample]:
    """`of` the minutes since it began, three hours ago."""
    now = int(time.time())
    return [(now - (180 - n) * 60, of(n)) for n in range(181)]


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    disk = f'{MACHINE},device="/dev/sdb",fstype="ext4",mountpoint'
    other = f'{MACHINE},device="tmpfs",fstype="tmpfs",mountpoint="/run"'
    with running(
        tmp_path_factory.mktemp("hosts"),
        {
            f"node_memory_MemTotal_bytes{{{MACHINE}}}": minutes(lambda _: 16 * GIB),
            f"node_memory_MemAvailable_bytes{{{MACHINE}}}": minutes(lambda _: 1 * GIB),
            f"node_memory_SwapTotal_bytes{{{MACHINE}}}": minutes(lambda _: 4 * GIB),
            f"node_memory_SwapFree_bytes{{{MACHINE}}}": minutes(lambda _: 1 * GIB),
            f"node_memory_AnonHugePages_bytes{{{MACHINE}}}": minutes(lambda _: 2 * GIB),
            f"node_vmstat_pswpin{{{MACHINE}}}": minutes(lambda n: max(0, n - 150) * 60 * 800.0),
            f"node_vmstat_pswpout{{{MACHINE}}}": minutes(lambda _: 7.0),
            f"node_vmstat_oom_kill{{{MACHINE}}}": minutes(lambda n: 3 + (n > 160)),
            f'node_filesystem_size_bytes{{{disk}="/"}}': minutes(lambda _: 50 * GIB),
            f'node_filesystem_avail_bytes{{{disk}="/"}}': minutes(lambda _: 40 * GIB),
            f'node_filesystem_size_bytes{{{disk}="/data"}}': minutes(lambda _: 100 * GIB),
            f'node_filesystem_avail_bytes{{{disk}="/data"}}': minutes(lambda _: 1 * GIB),
            f"node_filesystem_size_bytes{{{other}}}": minutes(lambda _: 8 * GIB),
            f"container_spec_memory_limit_bytes{{{POD}}}": minutes(lambda _: 2 * GIB),
            f"container_memory_working_set_bytes{{{POD}}}": minutes(lambda _: 2_040_109_466),
            f"container_memory_swap{{{POD}}}": minutes(lambda _: 0),
            f"container_oom_events_total{{{POD}}}": minutes(lambda n: float(n > 170)),
            f"container_cpu_cfs_periods_total{{{POD}}}": minutes(lambda n: 600.0 * n),
            f"container_cpu_cfs_throttled_periods_total{{{POD}}}": minutes(lambda n: 240.0 * n),
        },
    ) as url:
        yield url


async def seen(url: str, **target_entry: Any) -> Host:
    found = told(await facts(entry(url), target(**target_entry)), datetime.now(UTC))
    assert isinstance(found, Host), found
    return found


async def test_a_machine_that_swaps_and_its_full_data_disk(past: str) -> None:
    found = await seen(past, **ON_NODE, data_mount="/data")
    assert (found.memory_total_bytes, found.memory_available_bytes) == (16 * GIB, GIB)
    assert found.swap_used_bytes == 3 * GIB
    assert found.swapped_in_pages_per_second == pytest.approx(800, rel=0.01)
    assert found.swapped_out_pages_per_second == 0
    assert found.huge_pages_bytes == 2 * GIB
    assert found.oom_kills == 1
    assert (found.data_disk_bytes, found.data_disk_available_bytes) == (100 * GIB, GIB)
    assert isinstance(found.container_limit_bytes, NotMeasured)
    assert found.container_limit_bytes.failure == "not_configured"


async def test_a_container_near_its_limit_that_is_throttled_and_was_killed(past: str) -> None:
    found = await seen(past, **IN_POD)
    assert found.container_limit_bytes == 2 * GIB
    assert found.container_working_set_bytes == pytest.approx(1.9 * GIB, rel=1e-4)
    assert (found.container_swap_bytes, found.container_oom_kills) == (0, 1)
    assert found.cpu_periods == pytest.approx(36_000, rel=0.05)
    assert found.cpu_throttled_share == pytest.approx(0.4, rel=0.01)
    assert isinstance(found.swap_used_bytes, NotMeasured)


async def test_of_several_disks_the_one_with_the_data_has_to_be_named(past: str) -> None:
    unnamed = await seen(past, **ON_NODE)
    assert isinstance(unnamed.data_disk_bytes, NotMeasured)
    assert "2 disks: name the one with the data (`data_mount`)" in unnamed.data_disk_bytes.because
    elsewhere = await seen(past, **ON_NODE, data_mount="/nowhere")
    assert isinstance(elsewhere.data_disk_bytes, NotMeasured)
    assert "no disk is mounted where `data_mount` says" in elsewhere.data_disk_bytes.because
    assert unnamed.swap_used_bytes == elsewhere.swap_used_bytes == 3 * GIB


async def test_labels_that_fit_nothing_are_a_reason(past: str) -> None:
    wrong = target(host_series={"instance": 'x"} or up{y="'}, container_series={"no-label": "x"})
    found = told(await facts(entry(past), wrong), datetime.now(UTC))
    assert isinstance(found, NotMeasured)
    assert "no series with the labels of the target's host" in found.because
    assert "Prometheus knows no label like 'no-label'" in found.because
    assert found.failure == "absent"


async def test_a_real_node_exporter_has_every_metric_that_is_asked_for(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("node")
    with node_exporter(folder) as exporter, running(folder, {}, {"node": exporter}) as url:
        labels = {"instance": exporter}
        async with asyncio.timeout(20):
            while True:
                found = await facts(entry(url), target(host_series=labels, data_mount="/"))
                if found.host is not None and found.host.series:
                    break
                await asyncio.sleep(0.5)
    names = {one.metric for one in found.host.series}
    # A container's root may be an overlay, which is no disk.
    assert set(NODE.values()) - names <= {"data_disk_bytes", "data_disk_available_bytes"}
    reading = told(found, datetime.now(UTC))
    assert isinstance(reading, Host)
    assert isinstance(reading.memory_total_bytes, float)


def reply(*series: dict[str, Any]) -> httpx2.Response:
    return httpx2.Response(200, json={"status": "success", "data": {"result": list(series)}})


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (httpx2.Response(503, text="t0ken-s3cr3t"), "answered 503"),
        (httpx2.Response(307, headers={"Location": "http://evil.example"}), "answered 307"),
        (httpx2.ReadTimeout("slow"), "did not answer (ReadTimeout)"),
        (reply({"metric": None, "values": []}), "no range of samples"),
        (reply(*[{"metric": {"__name__": "x"}, "values": []}] * 401), "more than 400 series"),
        (
            reply(
                *(
                    {
                        "metric": {"__name__": "node_vmstat_pswpin", "cpu": name},
                        "values": [[time.time(), "1"]],
                    }
                    for name in "ab"
                )
            ),
            "2 series of node_vmstat_pswpin",
        ),
    ],
)
async def test_whatever_else_it_answers_is_a_reason(response: Any, said: str) -> None:
    with respx.mock() as mock:
        answering(mock.post(ASKED), response)
        found = await facts(entry(token="t0ken-s3cr3t"), target(**ON_NODE))
    reading = told(found, datetime.now(UTC))
    assert isinstance(reading, NotMeasured)
    assert said in reading.because
    assert "s3cr3t" not in found.model_dump_json() + reading.model_dump_json()


async def test_names_of_mounts_and_labels_do_not_leave_the_question() -> None:
    evil = "/disk\u202e7\n<b>"
    sizes = {
        "metric": {"__name__": "node_filesystem_size_bytes", "mountpoint": evil, "fstype": "ext4"},
        "values": [[time.time(), "5"]],
    }
    with respx.mock() as mock:
        mock.post(ASKED).return_value = reply(sizes)  # type: ignore[assignment]  # an alias
        found = await facts(entry(), target(**ON_NODE))
    assert "disk" not in found.model_dump_json().replace("data_disk", "")
    assert "<b>" not in found.model_dump_json()
    reading = told(found, datetime.now(UTC))
    assert isinstance(reading, Host)
    assert reading.data_disk_bytes == 5


async def test_without_labels_nobody_is_asked(
    database: Database, settings: Callable[..., Settings]
) -> None:
    assert await facts(entry(), target()) == HostFacts()
    assert await facts(None, target(**ON_NODE)) == HostFacts()
    one = {"name": "cache-1", "url": "redis://127.0.0.1:1"}
    known = await Past(settings(targets=[one]), database, "cache-1").known("host")
    assert known == {"facts": HostFacts()}


def test_every_metric_has_one_name() -> None:
    assert len({*NODE.values(), *CONTAINER.values()}) == len(NODE) + len(CONTAINER)


def test_doctor_asks_for_the_host_and_the_container(past: str, tmp_path: Path) -> None:
    one = {"name": "cache-1", "url": "redis://127.0.0.1:1", "match": {"a": "b"}}
    config = tmp_path / "oncall.yaml"
    config.write_text(
        yaml.safe_dump({"targets": [one | ON_NODE | IN_POD], "prometheus": {"url": past}})
    )
    environment = {"REDIS_ONCALL_DATA": str(tmp_path), "REDIS_ONCALL_CONFIG": str(config)}
    rows = json.loads(CliRunner().invoke(app, ["doctor", "--json"], env=environment).stdout)
    said = {row["says"]: row["state"] for row in rows if row["what"] == "prometheus"}
    assert said["cache-1: 6 metrics of container_series"] == "ok"
    assert said[f"cache-1: 8 metrics of host_series; 2 disks: {NAME_IT}"] == "warning"


NAME_IT = "name the one with the data (`data_mount`)"
