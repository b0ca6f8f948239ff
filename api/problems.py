"""Errors as application/problem+json, with `errors: [{field, message}]`."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, TypeAlias

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from api.store.decisions import NoSuchAction, Stale
from api.store.incidents import NoSuchIncident

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Of everything but the report's page, which brings its own."""
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""What every answer tells a browser: run nothing, embed nothing, keep nothing."""
log = structlog.get_logger(__name__)


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str
    message: str


class ProblemDetails(BaseModel):
    """RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldError]


class Problem(Exception):
    """An answer that is an error."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Sequence[tuple[str, str]] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}

    def response(self) -> JSONResponse:
        """As HTTP."""
        # What is no HTTP is answered outside of every middleware: these come with the problem.
        headers = HEADERS | self.headers
        return JSONResponse(self.content(), self.status, headers, media_type=MEDIA_TYPE)

    def content(self) -> dict[str, Any]:
        """The document."""
        return ProblemDetails(
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=self.detail,
            errors=[FieldError(field=field, message=message) for field, message in self.errors],
        ).model_dump()


def busy(detail: str, seconds: int = RETRY_SECONDS) -> Problem:
    """Not now; the sender should try again.

    Never 429: Alertmanager (github.com/prometheus/alertmanager/pull/2145) and Datadog
    (docs.datadoghq.com/integrations/webhooks) repeat what was answered with 5xx and drop the rest.
    """
    return Problem(503, detail, headers={"Retry-After": str(seconds)})


_SCHEMA = {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: these statuses answer with a problem."""
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: _SCHEMA}}
        for status in statuses
    }


AsPage: TypeAlias = Callable[[Request, Problem], Response | None]
"""A problem for a person who looks at a page; None: a program asked."""


def never_a_page(_: Request, __: Problem) -> None:
    """Where there are no pages."""


def install(app: FastAPI, as_page: AsPage = never_a_page) -> None:
    """Every error of the application leaves it as a problem; or as a page, where that is one."""

    def answer(request: Request, problem: Problem) -> Response:
        return as_page(request, problem) or problem.response()

    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        return answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        fields = fields_of(error.errors())
        return answer(request, Problem(422, "the request cannot be understood", fields))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        nowhere = "there is no such path; GET /openapi.json has all of them"
        detail = nowhere if error.status_code == 404 else str(error.detail)
        return answer(request, Problem(error.status_code, detail, headers=headers))

    @app.exception_handler(NoSuchIncident)
    async def no_incident(request: Request, __: NoSuchIncident) -> Response:
        return answer(request, Problem(404, "there is no such incident"))

    @app.exception_handler(NoSuchAction)
    async def no_action(request: Request, __: NoSuchAction) -> Response:
        return answer(request, Problem(404, "the incident's plan has no such action"))

    @app.exception_handler(Stale)
    async def stale(request: Request, error: Stale) -> Response:
        return answer(request, Problem(409, str(error)))

    @app.exception_handler(DBAPIError)
    @app.exception_handler(PoolTimeout)
    async def database(request: Request, error: Exception) -> Response:
        log.error("database_error", error=type(error).__name__)
        is_cut = isinstance(error, DBAPIError) and error.connection_invalidated
        if is_cut or isinstance(error, OperationalError | PoolTimeout):
            return answer(request, busy("the database cannot be used at the moment"))
        return answer(request, Problem(500, "the database refused; see the service's log"))


def fault(error: Exception) -> Problem:
    """The answer to what should not have happened; the log knows what it was."""
    log.error("bug", exc_info=error)
    return Problem(500, "a fault of the service; see its log")


async def only_known_query(request: Request) -> None:
    """A dependency: what is asked for by a name that does not exist is a mistake worth telling.

    Only of what reads: an alert is not lost for a parameter too many. Async, like every dependency:
    of others each call takes a thread.
    """
    route = request.scope["route"]
    if request.method != "GET" or not isinstance(route, APIRoute):
        return
    known = {parameter.alias for parameter in route.dependant.query_params}
    there_is = f"no such parameter (known: {', '.join(sorted(known)) or 'none'})"
    unknown = [(f"query.{name[:100]}", there_is) for name in request.query_params.keys() - known]
    if unknown:
        raise Problem(422, "the request cannot be understood", sorted(unknown)[:50])


def fields_of(errors: Sequence[Any]) -> list[tuple[str, str]]:
    """Pydantic's errors as (field, message), without the values."""
    return [
        (
            ".".join(str(part) for part in error["loc"]),
            str(error["msg"]).removeprefix("Value error, "),
        )
        for error in errors[:50]
    ]
