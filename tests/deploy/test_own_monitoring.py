"""Alert rules and dashboard about the service itself: valid, and about metrics that there are."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from evals import servers
from tests.api.process import PEOPLE, Oncall
from tests.deploy.monitoring import PROMETHEUS, Program

DEPLOY = Path(__file__).parents[2] / "api" / "deploy"
RULES = DEPLOY / "oncall-alerts.yml"
DASHBOARD = DEPLOY / "grafana-dashboard.json"
_NAME = re.compile(r"\b(?:redis_oncall|process)_[a-z_]+")
_PARTS = re.compile(r"_(?:bucket|count|sum)$")


@pytest.fixture
def promtool() -> str:
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("promtool is not installed here (Debian package prometheus)")
    return path


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def queries() -> list[str]:
    panels: list[Any] = json.loads(DASHBOARD.read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert len(found) > 30
    return found


def rules() -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    return loaded


def test_the_rules_fire_when_they_should_and_only_then(promtool: str, tmp_path: Path) -> None:
    run(promtool, "check", "rules", RULES)
    for path in (RULES, Path(__file__).with_name("oncall-alerts-test.yml")):
        shutil.copy(path, tmp_path)
    run(promtool, "test", "rules", tmp_path / "oncall-alerts-test.yml")
    tested = (tmp_path / "oncall-alerts-test.yml").read_text()
    for rule in rules():
        assert tested.count(rule["alert"]) == 2, f"{rule['alert']}: quiet, and firing"
        assert rule["annotations"]["action"], "whoever is woken knows what to do"


def test_the_queries_of_the_dashboard_are_promql(promtool: str, tmp_path: Path) -> None:
    asked = [
        {"record": f"query:{n}", "expr": q.replace("$__rate_interval", "5m").replace("$job", ".+")}
        for n, q in enumerate(queries())
    ]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": asked}]}))
    run(promtool, "check", "rules", file)


def test_the_dashboard_is_one_that_grafana_loads() -> None:
    """What its import reads: the model of schema version 39."""
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["schemaVersion"] == 39
    assert re.fullmatch(r"[a-z0-9-]{1,40}", dashboard["uid"])
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        x, y, w, h = (panel["gridPos"][side] for side in "xywh")
        cells = {(column, row) for column in range(x, x + w) for row in range(y, y + h)}
        assert x + w <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["type"] in ("stat", "timeseries")
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["fieldConfig"]["defaults"]["unit"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references) > 0
    used = set(re.findall(r"\$\{?(\w+)", DASHBOARD.read_text())) - {"__rate_interval"}
    assert used == variables


def test_prometheus_scrapes_the_service_as_the_page_says(tmp_path: Path, start_server: Any) -> None:
    if shutil.which(PROMETHEUS) is None:
        pytest.skip("prometheus is not installed here")
    page = (DEPLOY.parent / "README.md").read_text()
    printed = re.search(r"```yaml\n(rule_files: .*?)```", page, re.DOTALL)
    assert printed is not None
    config = yaml.safe_load(printed[1])
    commented = (DEPLOY / "prometheus.yml").read_text().split("\n#  - ")[1].replace("\n#", "\n")
    assert config["scrape_configs"] == yaml.safe_load(f"  - {commented}"), "the same in both"
    (job,) = config["scrape_configs"]
    oncall = Oncall(tmp_path, start_server(servers.BUILDS[-1]).port)
    oncall.start()
    (tmp_path / "token").write_text(PEOPLE["alice"])
    job["authorization"]["credentials_file"] = str(tmp_path / "token")
    job["static_configs"] = [{"targets": [f"127.0.0.1:{oncall.client.base_url.port}"]}]
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(RULES, tmp_path)
    url = f"http://127.0.0.1:{(port := servers.free_port())}"
    prometheus = Program(
        tmp_path, PROMETHEUS, f"{url}/-/ready", "--config.file=prometheus.yml",
        "--storage.tsdb.path=tsdb", f"--web.listen-address=127.0.0.1:{port}",
    )  # fmt: skip
    (down,) = [rule["expr"] for rule in rules() if rule["alert"] == "OncallDown"]

    def is_up() -> Any:
        asked = {"query": down.replace("== 0", "== 1")}
        answer = httpx2.get(f"{url}/api/v1/query", params=asked, trust_env=False)
        return answer.json()["data"]["result"]

    try:
        prometheus.start()
        oncall.wait(is_up, "it is scraped, under the name that the rules have")
    finally:
        prometheus.end()
        oncall.stop()


@pytest.fixture
def exposed(tmp_path: Path, start_server: Any) -> Iterator[str]:
    """What a live service says at /metrics."""
    oncall = Oncall(tmp_path, start_server(servers.BUILDS[-1]).port)
    oncall.start()
    response = oncall.client.get("/metrics")
    assert response.is_success
    yield response.text
    oncall.stop()


def test_every_metric_that_is_asked_for_exists(exposed: str) -> None:
    there = set(re.findall(r"^# TYPE (\S+) ", exposed, re.MULTILINE))
    asked = {
        _PARTS.sub("", name)
        for query in [*queries(), *(rule["expr"] for rule in rules())]
        for name in _NAME.findall(query)
    }
    assert asked - there == set()
