"""Commands that speak to a running service, with REDIS_ONCALL_URL and REDIS_ONCALL_TOKEN."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import httpx2
import typer
from pydantic import ValidationError

from agent.incident import Incident
from api.cli.oneshot import failure, settings_or_exit
from tools.reading import printable

SECONDS = 30.0
LONGEST_REFUSAL = 1_000
_HINTS = {
    401: "; set REDIS_ONCALL_TOKEN to a token of yours "
    "(`redis-oncall token NAME --role ROLE` makes one)",
}


class Refusal(Exception):
    """The service cannot be reached, or refused; the text says why, and what helps."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status
        """Of the answer; 0: there was none."""


class Refused(typer.Exit):
    """A refusal that is already said: exit 1, for whoever does not know better."""

    def __init__(self, status: int) -> None:
        super().__init__(1)
        self.status = status


def request(
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
    **query: str | Sequence[str] | None,
) -> Any:
    """One request and its answer. Raises Refusal."""
    url, headers = address(path)
    try:
        response = httpx2.request(
            method,
            url,
            json=body,
            params={name: value for name, value in query.items() if value is not None},
            headers=headers,
            timeout=SECONDS,
        )
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise Refusal(no_answer(error)) from None
    if not response.is_success:
        raise Refusal(refusal(response), response.status_code)
    try:
        return response.json()
    except ValueError:
        raise Refusal(_stranger(), response.status_code) from None


def call(
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
    **query: str | Sequence[str] | None,
) -> Any:
    """One request; a refusal is one sentence on stderr and exit 1."""
    try:
        return request(method, path, body, **query)
    except Refusal as error:
        failure(str(error))
        raise Refused(error.status) from None


def items(answer: Any) -> list[Any]:
    """Of a page; an answer that is none is one sentence on stderr and exit 1."""
    found = answer.get("items") if isinstance(answer, dict) else None
    if not isinstance(found, list):
        raise failure(_stranger())
    return found


def incident_of(answer: Any) -> Incident:
    """Harmless to show; an answer that is none is one sentence on stderr and exit 1."""
    try:
        return Incident.model_validate(harmless(answer))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "all of it"
        raise failure(f"{_stranger()} ({printable(where, 100)} is not understood)") from None


def _stranger() -> str:
    url = settings_or_exit().service_url
    return f"what answers at {url} is not redis-oncall, or of another version than this command"


def path_of(incident: str, *more: str) -> str:
    """Of an incident, or of something in it; an id is only ever one part of the path."""
    for part in (incident, *more):
        if part in ("", ".", "..") or "/" in part:
            raise failure(f"there is no such id: {printable(part, 100) or 'nothing'}", code=2)
    return "/".join(["/v1/incidents", *(quote(part, safe="") for part in (incident, *more))])


def harmless(document: Any) -> Any:
    """An answer whose texts a terminal may show: printable, of any number of lines."""
    if isinstance(document, str):
        lines = document.split("\n")
        return "\n".join(printable(line, len(line)) for line in lines)
    if isinstance(document, list):
        return [harmless(part) for part in document]
    if isinstance(document, dict):
        return {name: harmless(part) for name, part in document.items()}
    return document


def address(path: str) -> tuple[str, dict[str, str]]:
    """The URL of a path of the service, and the headers that authenticate."""
    settings = settings_or_exit()
    secret = settings.token.get_secret_value() if settings.token else ""
    if not (secret.isascii() and secret.isprintable()):
        raise failure("REDIS_ONCALL_TOKEN: no token has such characters", code=2)
    if not _is_web(settings.service_url):
        raise failure("REDIS_ONCALL_URL: an address is expected, such as http://127.0.0.1:8321", 2)
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    return settings.service_url.rstrip("/") + path, headers


def _is_web(url: str) -> bool:
    try:
        parts = httpx2.URL(url)
    except httpx2.InvalidURL:
        return False
    return parts.scheme in ("http", "https") and bool(parts.host)


def no_answer(error: httpx2.HTTPError | httpx2.InvalidURL) -> str:
    """That the service cannot be reached, and what to do."""
    return (
        f"no answer from {settings_or_exit().service_url} ({type(error).__name__}); start it with "
        "`redis-oncall serve`, or set REDIS_ONCALL_URL"
    )


def refusal(response: httpx2.Response) -> str:
    """What the service says is wrong with a request, in one sentence."""
    try:
        problem = response.json()
        detail = problem.get("detail") or problem.get("title") or ""
        fields = "; ".join(f"{e['field']}: {e['message']}" for e in problem.get("errors", []))
    except (ValueError, KeyError, TypeError, AttributeError):
        detail, fields = response.text[:300], ""
    said = printable(f"{detail} {fields}".strip(), LONGEST_REFUSAL)
    return f"the service said {response.status_code}: {said}" + _HINTS.get(response.status_code, "")
