"""One real investigation and one applied remedy, as traces, metrics and log lines show them."""

import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from typing import Any
from unittest.mock import AsyncMock

import pytest
import redis
from httpx2 import AsyncClient
from prometheus_client.parser import text_string_to_metric_families as families
from pydantic import SecretStr

from agent.context import Context
from agent.incident import Incident
from api import tracing
from api.app import create_app
from api.settings import Settings
from evals import scripted
from evals.scripted_models import Calls
from evals.servers import Server
from tests.api.process import setting_of
from tests.api.serving import serving, until
from tests.api.test_alerts import firing, message

SECRET = "pa55word-of-the-target"
NODES = [
    "load_runbook", "observe", "detect_signals", "investigate", "verify_claims", "propose", "gate"
]  # fmt: skip


class Careless:
    """A model that looks once, then submits what no evidence supports."""

    def answer(self, request: Any) -> Calls:
        looked = any(message["role"] == "tool" for message in request["messages"])
        if not looked:
            return [("memory_info", {})]
        fact = {"name": "x", "evidence": "E99", "op": "value", "of": ["used_memory"], "unit": ""}
        draft = {
            "root_cause": "hot-key", "confidence": 0.9, "culprit": {"kind": "none", "name": ""},
            "claims": [{"text": "{x} is it.", "facts": [fact]}],
        }  # fmt: skip
        return [("submit_diagnosis", draft)]


@pytest.fixture
async def endpoint() -> AsyncIterator[str]:
    async with scripted.serving(Careless()) as base_url:
        yield base_url


@pytest.fixture
def spans() -> Any:
    """Where finished spans are kept; skipped without the optional packages."""
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    exporter = memory.InMemorySpanExporter()
    tracing.record(export.SimpleSpanProcessor(exporter))
    yield exporter
    tracing.close()


class Tree:
    """Finished spans by id."""

    def __init__(self, finished: Any) -> None:
        self.spans = list(finished)
        self._by_id = {span.context.span_id: span for span in self.spans}

    def named(self, *beginnings: str) -> list[Any]:
        return [span for span in self.spans if span.name.startswith(beginnings)]

    def above(self, span: Any) -> list[str]:
        """The names of the spans above, nearest first."""
        names = []
        while span.parent is not None:
            span = self._by_id[span.parent.span_id]
            names.append(span.name)
        return names


@pytest.mark.usefixtures("close_samples")
@pytest.mark.long
async def test_an_incident_is_one_trace_and_its_remedy_another_linked_to_it(
    spans: Any,
    settings: Callable[..., Settings],
    ill: Server,
    endpoint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with redis.Redis(port=ill.port) as server:
        server.execute_command("ACL", "SETUSER", "oncall", "on", f">{SECRET}", "~*", "&*", "+@all")
    url = f"redis://oncall:{SECRET}@127.0.0.1:{ill.port}"
    target = {
        "name": "cache", "url": url, "remedy_url": url, "environment": "staging",
        "match": {"instance": "cache-eu"},
    }  # fmt: skip
    told = settings(targets=[target]).model_copy(
        update={
            "openai_model": "careless", "openai_base_url": endpoint,
            "openai_api_key": SecretStr("sk-0123456789"),
        }
    )  # fmt: skip
    async with serving(create_app(told)) as client:
        before = (await client.get("/metrics")).text
        incident = await _investigated(client)
        first = await _with_its_job(spans)
        await _remedied(client, incident)
        second = await _with_its_job(spans)
        metrics = (await client.get("/metrics")).text
    _one_trace_with_every_level(first)
    _the_remedy_is_linked(first, second)
    _nothing_secret(first.spans + second.spans, incident)
    _counted(before, metrics, incident)
    _logged(capsys.readouterr().err, first)


async def test_what_a_person_asks_for_is_in_the_trace_of_that_request(
    spans: Any, settings: Callable[..., Settings]
) -> None:
    """And to ask again is a trace of its own, linked to the one before."""

    async def looks(context: Context, incident: Incident) -> None:
        await context.journal.set_status("needs_human", "looked")

    told = settings(recordings=0)
    async with serving(create_app(told, run_graph=looks, open_reading=AsyncMock())) as client:
        asked = await client.post("/v1/investigations", json={"target": "cache-eu"})
        first = await _with_its_job(spans)
        again = await client.post(f"/v1/incidents/{asked.json()['id']}/reinvestigate")
        assert again.is_success, again.text
        second = await _with_its_job(spans)
    (request,) = first.named("POST /v1/investigations")
    (other,) = second.named("POST /v1/incidents/{incident_id}/reinvestigate")
    for tree, above in ((first, request), (second, other)):
        assert [tree.above(job) for job in tree.named("job advance")] == [[above.name]]
    assert [link.context.trace_id for link in other.links] == [request.context.trace_id]


async def _with_its_job(spans: Any) -> Tree:
    """What was recorded since the last time, when the job is over."""

    async def over() -> bool:
        return any(span.name == "job advance" for span in spans.get_finished_spans())

    await until(over, 15, "the job ends")
    tree = Tree(spans.get_finished_spans())
    spans.clear()
    return tree


async def _investigated(client: AsyncClient) -> Incident:
    sent = {"X-Request-Id": "webhook-17"}
    response = await client.post("/v1/alerts/alertmanager", json=message(firing()), headers=sent)
    assert response.headers["X-Request-Id"] == "webhook-17"
    (one,) = response.json()["incidents"]

    async def at_the_gate() -> Incident | None:
        incident = await _shown(client, one["id"])
        return incident if incident.status == "awaiting_approval" else None

    found: Incident = await until(at_the_gate, 60, "it is investigated")
    return found


async def _remedied(client: AsyncClient, incident: Incident) -> None:
    action = setting_of(incident)
    path = f"/v1/incidents/{incident.id}/actions/{action.id}/approve"
    assert (await client.post(path, json={"fingerprint": action.fingerprint})).is_success

    async def verified() -> bool:
        actions = (await _shown(client, incident.id)).plan.actions
        return next(a for a in actions if a.id == action.id).status == "verified"

    await until(verified, 60, "it is applied and verified")


async def _shown(client: AsyncClient, incident_id: str) -> Incident:
    return Incident.model_validate((await client.get(f"/v1/incidents/{incident_id}")).json())


def _one_trace_with_every_level(tree: Tree) -> None:
    (intake,) = tree.named("POST /v1/alerts/alertmanager")
    (job,) = tree.named("job advance")
    assert tree.above(job) == [intake.name]
    # Requests of people who look are traces of their own.
    assert {span.context.trace_id for span in tree.spans if not span.name.startswith("GET ")} == {
        intake.context.trace_id
    }
    nodes = tree.named("node ")
    for node in nodes:
        assert tree.above(node) == ["job advance", intake.name]
        assert not node.status.description
    assert {span.name for span in nodes} == {f"node {name}" for name in NODES}
    tools = tree.named("tool ")
    assert len(tools) > 5
    for tool in tools:
        assert tree.above(tool)[0] in ("node observe", "node investigate")
    commands = [span for span in tree.spans if span.attributes.get("db.system.name") == "redis"]
    assert {"INFO", "CONFIG GET"} <= {span.name for span in commands}
    assert any(tree.above(span)[0].startswith("tool ") for span in commands)
    models = tree.named("model call")
    assert models
    for call in models:
        assert tree.above(call) == ["node investigate", "job advance", intake.name]
        assert call.attributes["gen_ai.usage.input_tokens"] > 0


def _the_remedy_is_linked(first: Tree, second: Tree) -> None:
    (intake,) = first.named("POST /v1/alerts/alertmanager")
    (approval,) = second.named("POST /v1/incidents/{incident_id}/actions/{action_id}/approve")
    jobs = [job for job in second.named("job advance") if second.above(job) == [approval.name]]
    (job,) = jobs
    assert [link.context.trace_id for link in approval.links] == [intake.context.trace_id]
    assert job.context.trace_id == approval.context.trace_id
    writes = second.named("CONFIG SET")
    assert writes
    for write in writes:
        assert second.above(write)[0] == "node apply"


def _nothing_secret(spans: list[Any], incident: Incident) -> None:
    assert incident.diagnosis is not None
    prefix = incident.diagnosis.culprit.name
    assert prefix == "session:"
    told = json.dumps([json.loads(span.to_json()) for span in spans])
    for unwanted in (SECRET, prefix, "maxmemory-policy", "sk-0123456789", "webhook-17"):
        assert unwanted not in told


def _values(text: str) -> dict[tuple[str, ...], float]:
    """By name and labels."""
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families(text)
        for sample in family.samples
    }


def _counted(before: str, text: str, incident: Incident) -> None:
    value = _values(text)
    name = "redis_oncall_"
    assert value[f"{name}investigations_total", "awaiting_approval", "rules"] >= 1
    assert value[f"{name}time_to_diagnosis_seconds_count",] >= 1
    assert value[f"{name}claim_checks_total", "failed", "model"] >= 1
    assert value[f"{name}claim_checks_total", "held", "rules"] >= 1
    assert value[f"{name}looks_total", "measured", "memory_info"] >= 1
    assert (
        value[f"{name}model_calls_total", "answered", "investigation"] >= incident.usage.llm_calls
    )
    assert value[f"{name}model_tokens_total", "input", "investigation"] > 1_000
    assert value[f"{name}model_unpriced_calls_total", "investigation"] >= 1
    dollars = (f"{name}model_dollars_total", "investigation")
    assert value.get(dollars) == _values(before).get(dollars), "unknown is not zero"
    assert value[f"{name}target_commands_total", "cache", "investigation"] > 20
    assert value[f"{name}target_commands_total", "cache", "remedy"] >= 3
    assert 0 < value[f"{name}target_seconds_total", "cache", "investigation"] < 60
    assert value[f"{name}workers",] == 1
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed here (Debian package prometheus)")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def _logged(log: str, tree: Tree) -> None:
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    (intake,) = tree.named("POST /v1/alerts/alertmanager")
    trace = f"{intake.context.trace_id:032x}"
    (accepted,) = [line for line in lines if line["event"] == "alerts_accepted"]
    assert (accepted["request"], accepted["trace"]) == ("webhook-17", trace)
