"""A group of Alertmanager's that is larger than a message may be: the most that fits is taken."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from api.limits import LARGEST_ALERTS
from evals.servers import free_port
from tests.api.process import PEOPLE, Oncall
from tests.api.test_documented_senders import example
from tests.deploy.monitoring import ALERTMANAGER, Program, metrics, shipped

ALERTS = 700
LARGE = "x" * 2_800
"""An annotation that makes an alert as large as they get where everything adds labels to it."""
pytestmark = pytest.mark.skipif(
    shutil.which(ALERTMANAGER) is None, reason=f"{ALERTMANAGER} is not installed (Debian package)"
)


@pytest.fixture
def oncall(tmp_path: Path) -> Iterator[Oncall]:
    oncall = Oncall(tmp_path, free_port())
    try:
        oncall.start("--no-worker")
        yield oncall
    finally:
        oncall.stop()


def documented() -> Any:
    return yaml.safe_load(example("yaml", "webhook_configs"))


def group() -> list[dict[str, Any]]:
    """Of one server, as Prometheus posts them."""
    now = datetime.now(UTC)
    labels = {"alertname": "RedisMemoryHigh", "instance": "cache-eu", "severity": "warning"}
    return [
        {
            "labels": labels | {"pod": f"exporter-{number}"},
            "annotations": {"description": LARGE},
            "startsAt": now.isoformat(),
            "endsAt": (now + timedelta(hours=1)).isoformat(),
        }
        for number in range(ALERTS)
    ]


@pytest.mark.parametrize("configuration", [documented, lambda: shipped("alertmanager.yml")])
def test_what_is_cut_off_is_counted_and_the_rest_arrives(
    oncall: Oncall, tmp_path: Path, configuration: Any
) -> None:
    assert ALERTS * len(LARGE) * 1.2 > LARGEST_ALERTS
    told = configuration()
    told["route"] |= {"group_wait": "3s", "group_interval": "3s"}
    (hook,) = told["receivers"][0]["webhook_configs"]
    hook["url"] = f"{oncall.client.base_url}/v1/alerts/alertmanager"
    hook["http_config"] = {"authorization": {"credentials": PEOPLE["alice"]}}
    (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(told))
    url = f"http://127.0.0.1:{free_port()}"
    program = Program(
        tmp_path, ALERTMANAGER, f"{url}/-/ready", "--config.file=alertmanager.yml",
        f"--web.listen-address={url.removeprefix('http://')}", "--cluster.listen-address=",
        "--storage.path=data",
    )  # fmt: skip
    program.start()
    try:
        posted = httpx2.post(f"{url}/api/v2/alerts", json=group(), trust_env=False, timeout=60)
        assert posted.is_success, posted.text
        refused = 'alertmanager_notifications_failed_total{integration="webhook"}'

        def arrived() -> bool:
            assert metrics(f"{url}/metrics")[refused] == 0
            kept = oncall.client.get("/v1/incidents").json()["items"]
            number = kept[0]["more_alerts"] + len(kept[0]["alerts"]) if kept else 0
            return bool(number >= hook["max_alerts"])

        oncall.wait(arrived, "the group arrives")
        counted = oncall.client.get("/metrics").text
        assert 'redis_oncall_alerts_truncated_total{source="alertmanager"}' in counted
    finally:
        program.end()
