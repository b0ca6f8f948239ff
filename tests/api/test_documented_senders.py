"""What api/README.md tells senders to do, done with curl and python3 to a real service."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from evals import servers
from tests.api.process import Oncall
from tests.api.senders import NEW, OLD, event, raw, signature, transition
from tests.api.serving import sha256
from tests.api.test_alerts import firing, message

pytestmark = pytest.mark.skipif(
    not (shutil.which("curl") and Path("/usr/bin/python3").exists()),
    reason="curl and a python3 of the system are needed",
)
README = Path("api/README.md").read_text()
TOKEN = "roc_sender_0123456789abcdef"
FILLED = {
    "WHAT-redis-oncall-token-PRINTS": sha256(TOKEN),
    "10.1.0.0/28": "127.0.0.1",
    "${GRAFANA_SECRET}": NEW,
    "${PAGERDUTY_SECRET}": NEW,
    "${SCRIPTS_SECRET}": NEW,
    "${PAGERDUTY_SECRET_BEFORE}": OLD,
}
"""What whoever copies the example fills in."""


def example(language: str, word: str) -> str:
    """The block of that language that has the word."""
    (found,) = [
        block
        for block in re.findall(rf"```{language}\n(.+?)```", README, re.DOTALL)
        if word in block
    ]
    return str(found)


@pytest.fixture(scope="module")
def oncall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oncall]:
    folder = tmp_path_factory.mktemp("oncall")
    oncall = Oncall(folder, servers.free_port())
    sources = example("yaml", "name: mesh")
    for written, meant in FILLED.items():
        assert written in sources
        sources = sources.replace(written, meant)
    file = folder / "oncall.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | yaml.safe_load(sources)))
    try:
        oncall.start()
        yield oncall
    finally:
        oncall.stop()


def ran(command: list[str] | str, **environment: str) -> str:
    done = subprocess.run(
        command, shell=isinstance(command, str), env={"PATH": "/usr/bin:/bin"} | environment,
        capture_output=True, timeout=30, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def curl(oncall: Oncall, kind: str, body: bytes, *options: str) -> list[Any]:
    url = f"{oncall.client.base_url}/v1/alerts/{kind}"
    json_body = ("-H", "Content-Type: application/json", "--data-binary", body.decode())
    answer = ran(["curl", "-sS", *options, *json_body, url])
    assert "incidents" in answer, answer
    return list(json.loads(answer)["incidents"])


def one(name: str, **fields: Any) -> bytes:
    return raw(message(firing(f"by-{name}", **fields)))


def test_alertmanager_by_token_password_and_certificate(oncall: Oncall) -> None:
    for name, options in {
        "token": ["-H", f"Authorization: Bearer {TOKEN}"],
        "password": ["-u", f"prometheus:{TOKEN}"],
        "certificate": ["-H", "X-SSL-Client-S-DN: CN=alertmanager,O=Acme",
                        "-H", "X-SSL-Client-Verify: SUCCESS"],
    }.items():  # fmt: skip
        assert len(curl(oncall, "alertmanager", one(name), *options)) == 1, name
    receiver = yaml.safe_load(example("yaml", "webhook_configs"))["receivers"][0]
    assert receiver["webhook_configs"][0]["url"].endswith("/v1/alerts/alertmanager")


def test_grafana_signs_the_body_with_the_time(oncall: Oncall) -> None:
    (point,) = yaml.safe_load(example("yaml", "contactPoints"))["contactPoints"]
    settings = point["receivers"][0]["settings"]
    now, body = int(time.time()), one("grafana")
    options = [
        "-H", f"{settings['hmacConfig']['timestampHeader']}: {now}",
        "-H", f"X-Grafana-Alerting-Signature: {signature(body, NEW, now)}",
    ]  # fmt: skip
    assert len(curl(oncall, "grafana", body, *options)) == 1
    assert curl(oncall, "grafana", body, *options) == [], "replayed within the window"


def test_pagerduty_signs_with_both_secrets_while_one_is_replaced(oncall: Oncall) -> None:
    body = raw(event())
    signed = ",".join(f"v1={signature(body, secret)}" for secret in (OLD, "one-that-is-not-ours"))
    options = ["-H", f"X-PagerDuty-Signature: {signed}", "-H", "X-Webhook-Id: w-1"]
    assert len(curl(oncall, "pagerduty", body, *options)) == 1
    assert curl(oncall, "pagerduty", body, *options) == []


def test_datadog_sends_the_payload_and_the_header(oncall: Oncall) -> None:
    header = re.search(r'`(\{"Authorization": "Bearer roc_…"\})`', README)
    assert header is not None
    ((name, value),) = json.loads(header[1]).items()
    said = f"{name}: {value.replace('roc_…', TOKEN)}"
    assert len(curl(oncall, "datadog", raw(transition()), "-H", said)) == 1


@pytest.fixture
def watched_programs(tmp_path: Path) -> Iterator[Path]:
    """A folder of programs that write down what they are given, as `ps` shows it."""
    log = tmp_path / "arguments"
    log.touch()
    for name in ("curl", "cut", "date", "openssl", "python3"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {log}\nexec /usr/bin/{name} "$@"\n')
        program.chmod(0o755)
    yield tmp_path
    given = log.read_text()
    assert "curl -H X-Signature: " in given
    assert NEW not in given
    assert OLD not in given


def test_the_script_of_the_readme_signs_what_it_sends(
    oncall: Oncall, watched_programs: Path
) -> None:
    script = example("sh", "X-Signature-Time")
    script = script.replace("https://oncall.example", str(oncall.client.base_url))
    own = {"name": "slow", "starts_at": "2026-01-31T03:00:00Z", "labels": {"at": "é"}}
    body = json.dumps({"alerts": [own]}, ensure_ascii=False)
    path = f"{watched_programs}:/usr/bin:/bin"
    answer = json.loads(ran(script, PATH=path, SECRET=NEW, body=body))
    assert len(answer["incidents"]) == 1
    refused = json.loads(ran(script, PATH=path, SECRET=OLD, body=body))
    assert refused["status"] == 401
