"""The files people deploy with are valid, and agree with the program and with each other."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "api" / "deploy"


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def test_compose_file_follows_the_compose_specification() -> None:
    # The validator knows no YAML merge keys, which compose files may use: resolve them first.
    resolved = {key: value for key, value in compose().items() if not key.startswith("x-")}
    parsed = PyCompose.from_yaml(yaml.safe_dump(resolved))
    assert set(parsed.service_names()) >= {
        "service",
        "worker",
        "postgres",
        "queue",
        "target",
        "redis-exporter",
        "prometheus",
        "alertmanager",
    }


def test_files_that_compose_mounts_exist() -> None:
    mounted = [
        volume.split(":")[0]
        for service in compose()["services"].values()
        for volume in service.get("volumes", [])
        if volume.startswith("./")
    ]
    assert mounted
    assert [path for path in mounted if not (ROOT / path).is_file()] == []


def test_no_secret_has_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert "POSTGRES_PASSWORD:?" in text
    assert "ADMIN_TOKEN_SHA256:?" in text
    assert "REDIS_ONCALL_KEY:?" in text
    assert "change" not in text.lower()


def test_settings_accept_the_deployed_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    from api.settings import load_settings

    monkeypatch.setenv("REDIS_ONCALL_CONFIG", str(DEPLOY / "redis-oncall.yaml"))
    monkeypatch.setenv("ADMIN_TOKEN_SHA256", "a" * 64)
    monkeypatch.setenv("ALERTMANAGER_TOKEN_SHA256", "b" * 64)
    settings = load_settings()
    assert [target.name for target in settings.agent_targets()] == ["target"]
    assert [token.role for token in settings.tokens] == ["admin"]
    assert [source.kind for source in settings.sources] == ["alertmanager"]


def test_alertmanager_posts_to_the_service_that_compose_starts() -> None:
    receivers = yaml.safe_load((DEPLOY / "alertmanager.yml").read_text())["receivers"]
    (hook,) = receivers[0]["webhook_configs"]
    assert hook["url"] == "http://service:8321/v1/alerts/alertmanager"
    assert "8321" in compose()["services"]["service"]["command"]


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("promtool", ["check", "rules", "redis-alerts.yml"]),
        ("promtool", ["check", "config", "prometheus.yml"]),
        ("amtool", ["check-config", "alertmanager.yml"]),
    ],
)
def test_prometheus_and_alertmanager_accept_their_files(program: str, arguments: list[str]) -> None:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed here (Debian package prometheus-alertmanager)")
    done = subprocess.run(
        [path, *arguments], cwd=DEPLOY, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
