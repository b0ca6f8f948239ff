"""The OpenAPI document is complete, and no request it allows makes the service fail."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, get_args

import hypothesis
import jsonschema
import pytest
import schemathesis
from fastapi import FastAPI
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from starlette.testclient import TestClient

from api.app import create_app
from api.settings import Settings
from api.source_config import SIGNATURES, SourceKind
from tests.api.senders import PING, event, transition
from tests.api.serving import as_role


@pytest.fixture
def app(settings: Callable[..., Settings]) -> Iterator[FastAPI]:
    app = create_app(settings(), worker=False)
    with contextlib.ExitStack() as stack:
        stack.enter_context(TestClient(app))
        yield app


def test_every_operation_documents_its_answers(settings: Callable[..., Settings]) -> None:
    document = create_app(settings(), worker=False).openapi()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description") or operation.get("summary"), (method, path)
            if not path.startswith("/v1"):
                continue
            for code in ("401", "403", "422"):
                assert "application/problem+json" in operation["responses"][code]["content"], path
    assert {"type", "title", "status", "detail", "errors"} == set(
        document["components"]["schemas"]["ProblemDetails"]["properties"]
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


@pytest.mark.timeout(300)
@pytest.mark.long
def test_no_request_makes_it_fail(app: FastAPI) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    codes: set[int] = set()
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        if operation.path.endswith("/events"):
            continue  # a stream ends when its incident does

        @hypothesis.settings(
            max_examples=12, deadline=None, database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )  # fmt: skip
        @hypothesis.given(case=operation.as_strategy())
        def never_fails(case: Any) -> None:
            response = case.call(headers=dict(case.headers or {}) | as_role("admin"))
            codes.add(response.status_code)
            case.validate_response(response, checks=[not_a_server_error])

        never_fails()
    assert codes >= {200, 202, 404, 422}, "requests did not get past the door"
