"""Traces over a real wire: two processes, one trace; and what they cost while they are off."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from api import tracing
from api.observed_connection import name_of
from api.run_telemetry import start_tracing
from api.settings import SettingsError, load_settings
from evals import servers
from tests.api.process import Oncall
from tests.api.test_scale_out import QueueServer, queue_server

__all__ = ["queue_server"]
ROOT = Path(__file__).parents[2]


class Receiver:
    """An OTLP/HTTP receiver on loopback: keeps the spans it is sent."""

    def __init__(self, request: Any) -> None:
        receiver = self
        self.spans: list[tuple[str, Any]] = []
        """Each with the instance that sent it."""

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.path == "/v1/traces"
                receiver._keep(request.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _keep(self, sent: Any) -> None:
        for resource in sent.resource_spans:
            told = {a.key: a.value.string_value for a in resource.resource.attributes}
            assert told["service.name"] == "redis-oncall"
            for scope in resource.scope_spans:
                self.spans += [(told["service.instance.id"], span) for span in scope.spans]

    def named(self, beginning: str) -> list[tuple[str, Any]]:
        return [(who, span) for who, span in list(self.spans) if span.name.startswith(beginning)]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    receiver = Receiver(service.ExportTraceServiceRequest)
    yield receiver
    receiver.close()


@pytest.fixture
def oncall(
    tmp_path: Path, ill: servers.Server, queue_server: QueueServer, receiver: Receiver
) -> Iterator[Oncall]:
    """A service that only answers requests, and a worker, on one SQLite file."""
    queue = f"redis://127.0.0.1:{queue_server.port}/0"
    traces = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    oncall = Oncall(tmp_path, ill.port, REDIS_ONCALL_QUEUE=queue, **traces)
    oncall.start_worker()
    oncall.start("--no-worker")
    yield oncall
    oncall.stop()


def test_two_processes_make_one_trace(oncall: Oncall, receiver: Receiver) -> None:
    incident_id = oncall.alert()
    oncall.reaches(incident_id, "awaiting_approval")
    oncall.wait(lambda: receiver.named("job advance"), "the worker has sent its job's span", 20)
    oncall.wait(lambda: receiver.named("POST "), "the service has sent its request's span", 20)
    ((service, request),) = receiver.named("POST /v1/alerts/alertmanager")
    ((worker, job),) = receiver.named("job advance")
    assert service != worker
    assert job.parent_span_id == request.span_id
    of_the_worker = [span for who, span in receiver.spans if who == worker]
    assert {span.trace_id for span in of_the_worker} == {request.trace_id}
    names = {span.name for span in of_the_worker}
    assert {"node observe", "tool memory_info", "INFO", "CONFIG GET"} <= names
    assert not [
        span for _, span in receiver.spans if span.name.startswith(("GET /ready", "advance"))
    ]


def test_while_they_are_off_nothing_of_them_is_imported() -> None:
    program = (
        "import sys; import api.app; from api import tracing\n"
        "with tracing.span('x') as span: span.set({'a': 1})\n"
        "assert tracing.traceparent() == ''\n"
        "print([m for m in sys.modules if m.startswith(('opentelemetry.sdk.trace', "
        "'opentelemetry.exporter', 'opentelemetry.proto'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_receiver_is_configured_and_the_packages_are_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = {"REDIS_ONCALL_DATA": str(tmp_path), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    monkeypatch.setattr(tracing, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"pip install 'redis-oncall\[otel\]'"):
        start_tracing(load_settings(told))
    assert not tracing.is_on()
    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_ENDPOINT: use an http"):
        load_settings(told | {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"})


def test_the_name_of_a_command_holds_nothing_else_of_it() -> None:
    assert name_of(("GET", "session:ada")) == "GET"
    assert name_of((b"memory", b"usage", b"session:ada")) == "MEMORY USAGE"
    assert name_of(("CONFIG", "SET", "requirepass", "pa55word")) == "CONFIG SET"
    assert name_of(("RESTORE", "session:ada", 0, b"\xff\x00")) == "RESTORE"
    assert name_of(("EVAL", "return 1", 0)) == "EVAL"
