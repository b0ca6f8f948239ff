"""What nobody should send, to a real service: 4xx that names the field, and no connection."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from tests.api.process import Oncall
from tests.api.senders import event, transition
from tests.api.test_alerts import firing, message

CORPUS = sorted((Path(__file__).parent / "malformed").glob("*.jsonl"))


class Listener:
    """A server that notes whether anybody connects."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.visits = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                visitor, _ = self._socket.accept()
            except OSError:
                return
            self.visits += 1
            visitor.close()

    def close(self) -> None:
        self._socket.close()


SOURCES = [
    {"name": "near", "kind": "alertmanager",
     "mtls": {"proxies": ["127.0.0.1"], "subjects": ["CN=near"]}},
    {"name": "far", "kind": "alertmanager",
     "mtls": {"proxies": ["10.1.2.3"], "subjects": ["CN=far"]}},
]  # fmt: skip


@pytest.fixture(scope="module")
def target() -> Iterator[Listener]:
    """What the one configured target is."""
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture(scope="module")
def oncall(target: Listener, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oncall]:
    folder = tmp_path_factory.mktemp("oncall")
    oncall = Oncall(folder, target.port)
    file = folder / "oncall.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"sources": SOURCES}))
    try:
        oncall.start()
        yield oncall
    finally:
        oncall.stop()


def test_each_malformed_payload_is_answered_with_the_field(oncall: Oncall) -> None:
    """The corpus holds one payload a line; a source that is missing has none."""
    assert [file.stem for file in CORPUS] == [
        "alertmanager", "datadog", "generic", "grafana", "pagerduty",
    ]  # fmt: skip
    wrong: list[Any] = []
    before = oncall.client.get("/v1/incidents").json()
    for file in CORPUS:
        for line in file.read_text().splitlines():
            case = json.loads(line)
            response = oncall.client.post(f"/v1/alerts/{file.stem}", content=case["body"].encode())
            told = response.json().get("errors") or [{}]
            media = response.headers["content-type"]
            said = (response.status_code, told[0].get("field"), media)
            if said != (422, case["field"], "application/problem+json"):
                wrong.append((file.stem, case, *said))
    assert wrong == []
    for body in (b"\xff\xfe{", b"\x00", "{}".encode("utf-16")[:3], b"[" * 100_000):
        response = oncall.client.post("/v1/alerts/generic", content=body)
        assert response.status_code == 422, body[:10]
        assert response.json()["errors"][0]["field"] == "body"
    assert oncall.client.get("/v1/incidents").json() == before


def hostile(port: int) -> dict[str, Any]:
    """One message a source, full of addresses of that port."""
    address, url = f"127.0.0.1:{port}", f"http://127.0.0.1:{port}/"
    labels = {
        "instance": address, "addr": address, "host": "127.0.0.1", "port": str(port),
        "target": f"redis://{address}", "url": f"redis://u:p@{address}/0", "name": "cache",
        "__address__": address, "match": f"unix:///tmp/{port}",
    }  # fmt: skip
    texts = {"runbook_url": url, "summary": f"see {url} or redis://{address}", "dashboard": url}
    am = message(
        firing("h", labels=labels | {"alertname": f"redis://{address}"}, annotations=texts,
               generatorURL=url), externalURL=url,
    )  # fmt: skip
    tags = ",".join(f"{name}:{value}" for name, value in labels.items())
    own = {"name": url, "starts_at": "2026-01-31T03:00:00Z", "labels": labels, "annotations": texts}
    return {
        "alertmanager": am,
        "grafana": am,
        "generic": {"alerts": [own]},
        "pagerduty": event(
            id="H", custom_details=labels, body={"details": labels}, html_url=url, self=url,
            service={"id": address, "summary": f"redis://{address}", "self": url},
        ),
        "datadog": transition(cycle="h", scope=tags, tags=tags, host=address, link=url),
    }  # fmt: skip


def test_no_alert_makes_the_service_connect_to_an_address_of_its_choosing(
    oncall: Oncall, target: Listener
) -> None:
    """Labels with addresses match no target: a person gets them, and nobody calls there."""
    listener, before = Listener(), target.visits
    try:
        for source, body in hostile(listener.port).items():
            (one,) = oncall.post(f"/v1/alerts/{source}", body)["incidents"]
            assert one["status"] == "needs_human", source
            shown = oncall.incident(one["id"])
            assert shown.target == ""
            assert shown.ended_because is not None
            assert "`match`" in shown.ended_because
        (known,) = oncall.post("/v1/alerts/alertmanager", message(firing()))["incidents"]
        oncall.reaches(known["id"], "needs_human", "resolved")
        assert target.visits > before, "a target that matches is looked at"
        assert listener.visits == 0
    finally:
        listener.close()


@pytest.mark.parametrize(("name", "status"), [("near", 202), ("far", 401)])
def test_whose_word_counts_is_decided_by_the_connection(
    oncall: Oncall, name: str, status: int
) -> None:
    """Whoever may write X-Forwarded-For is not thereby the proxy that checks certificates."""
    said = {
        "X-SSL-Client-S-DN": f"CN={name}", "X-SSL-Client-Verify": "SUCCESS",
        "X-Forwarded-For": "10.1.2.3",
    }  # fmt: skip
    url = f"{oncall.client.base_url}/v1/alerts/alertmanager"
    response = httpx2.post(url, json={"alerts": []}, headers=said, timeout=30)
    assert response.status_code == status, response.text
