"""The OpenAPI document is complete, and whatever anybody sends is answered as it says.

`pytest tests/api/test_openapi.py --hypothesis-profile=long` sends 20 times as much (some minutes).
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, get_args

import hypothesis
import jsonschema
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from api import sign_ins
from api.app import create_app
from api.settings import Settings
from api.source_config import SIGNATURES, SourceKind
from tests.api.senders import PING, event, transition
from tests.api.serving import as_role

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance,
    response_headers_conformance, response_schema_conformance,
]  # fmt: skip
EXAMPLES = min(hypothesis.settings().max_examples // 16, 200)
"""Of each operation, each sent as administrator and in two of the other roles, in turn."""
OTHERS = ["nobody", "roc_source1_x", "viewer", "responder", "approver"]


@pytest.fixture
def client(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    monkeypatch.setattr(sign_ins, "MOST_FAILURES", 100_000)
    with TestClient(create_app(settings(), worker=False)) as client:
        yield client


def documented(app: FastAPI) -> dict[tuple[str, str], Any]:
    return {
        (method.upper(), path): operation
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
    }


def test_every_operation_documents_its_answers(settings: Callable[..., Settings]) -> None:
    app = create_app(settings(), worker=False)
    for (method, path), operation in documented(app).items():
        assert operation.get("description") or operation.get("summary"), (method, path)
        if not path.startswith("/v1"):
            continue
        codes = {"401", "403", "414", "421", "429", "431", "503"}
        codes |= {"408", "413", "422"} if method == "POST" else set()
        for code in codes:
            assert "application/problem+json" in operation["responses"][code]["content"], path
    assert {"type", "title", "status", "detail", "errors"} == set(
        app.openapi()["components"]["schemas"]["ProblemDetails"]["properties"]
    )


def test_every_source_is_described_with_its_body_its_headers_and_its_proofs(
    settings: Callable[..., Settings],
) -> None:
    document = create_app(settings(), worker=False).openapi()
    schemes = document["components"]["securitySchemes"]
    assert get_args(SourceKind)
    for kind in get_args(SourceKind):
        operation = document["paths"][f"/v1/alerts/{kind}"]["post"]
        body = operation["requestBody"]["content"]["application/json"]["schema"]
        assert body["required"], kind
        proofs = [name for way in operation["security"] for name in way]
        assert {"HTTPBearer", "Basic", "ClientCertificate"} <= set(proofs) <= set(schemes)
        signed = [schemes[name]["name"] for name in proofs if schemes[name]["type"] == "apiKey"]
        assert signed == ([SIGNATURES[kind]] if kind in SIGNATURES else [])
        headers = [parameter["name"] for parameter in operation["parameters"]]
        assert headers == (["X-Webhook-Id"] if kind == "pagerduty" else [])
    for example, check in ((PING, "pagerduty"), (event(), "pagerduty"), (transition(), "datadog")):
        body = document["paths"][f"/v1/alerts/{check}"]["post"]["requestBody"]
        jsonschema.validate(example, body["content"]["application/json"]["schema"])


def known_things(client: TestClient) -> dict[str, str]:
    """Parameters that lead somewhere: most of what is made up leads to 404."""
    opened = client.post(
        "/v1/investigations", json={"target": "cache-eu"}, headers=as_role("admin")
    ).json()
    asked = client.post(
        "/v1/chat", json={"message": "what is fragmentation?"}, headers=as_role("admin")
    ).json()
    return {
        "incident_id": opened["id"], "thread_id": asked["thread_id"], "action_id": "A1",
        "evidence_id": "E1", "freeze_id": "1", "silence_id": "1",
    }  # fmt: skip


def fuzz(operation: Any, known: dict[str, str], codes: dict[str, set[int]]) -> None:
    """Valid and invalid requests; by role, the statuses they were answered with."""
    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    cases = st.one_of([operation.as_strategy(generation_mode=mode) for mode in modes])
    others = itertools.cycle(OTHERS)

    @hypothesis.settings(
        max_examples=EXAMPLES, deadline=None, database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(case=cases, exists=st.booleans())
    def conforms(case: Any, exists: bool) -> None:
        if exists:
            case.path_parameters |= {n: known[n] for n in case.path_parameters if n in known}
        for role in ("admin", next(others), next(others)):
            headers = {} if role == "nobody" else as_role(role)
            response = case.call(headers=dict(case.headers or {}) | headers)
            codes[role].add(response.status_code)
            case.validate_response(response, checks=CHECKS)

    conforms()


@pytest.mark.timeout(3_600)
@pytest.mark.long
def test_whatever_anybody_sends_is_answered_as_documented(client: TestClient) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
    known, codes = known_things(client), defaultdict[str, set[int]](set)
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        if operation.path == "/readyz":
            continue  # nothing is ready without a worker
        streams = operation.path.endswith("/events")  # one ends when its incident does
        fuzz(operation, {} if streams else known, codes)
    assert set(codes) == {"admin", *OTHERS}
    assert codes["nobody"] >= {200, 401}
    assert codes["nobody"] <= {200, 401, 408, 413, 414, 422, 431}
    assert codes["admin"] >= {200, 202, 404, 422}, "requests did not get past the door"
