"""The OpenAPI document, exactly: it names an answer only where there can be one."""

from typing import Any

from fastapi import FastAPI

from api.alerts import schemas
from api.problems import ProblemDetails

_OF_BODIES = ("408", "413")
Operation = dict[str, Any]


def complete(app: FastAPI) -> None:
    """From now on `app.openapi()` is complete."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            _define(document)
            for path, operations in document["paths"].items():
                for method, operation in operations.items():
                    _leave_out(path, method, operation)
        return plain()

    app.openapi = openapi  # type: ignore[method-assign]


def _define(document: dict[str, Any]) -> None:
    """The schema every error refers to, and how sources authenticate."""
    components = document.setdefault("components", {})
    components.setdefault("securitySchemes", {}).update(schemas.SECURITY)
    models = components.setdefault("schemas", {})
    problem = ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
    models |= problem.pop("$defs", {})
    models["ProblemDetails"] = problem


def _leave_out(path: str, method: str, operation: Operation) -> None:
    """What a router says of all its operations and does not hold for this one."""
    impossible: set[str] = set()
    if method == "get":
        impossible.update(_OF_BODIES)
    if "{" not in path and path != "/v1/chat":
        impossible.add("404")
    for code in impossible & operation["responses"].keys():
        del operation["responses"][code]
