"""What is asked of the service's HTTP API, and what it refuses."""

from typing import Any
from urllib.parse import quote

import httpx2
from pydantic import ValidationError

from api.problems import ProblemDetails
from tools.reading import printable

LONGEST_REFUSAL = 2_000
STRANGER = "what answers at REDIS_ONCALL_URL is not redis-oncall, or of another version"
NOWHERE = ("", ".", "..")
"""Parts that lead elsewhere in a path."""


class Refused(Exception):
    """The service said no, and why; or nothing at all."""


class Api:
    """The service, for one call."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def get(self, *path: str, **query: Any) -> Any:
        """JSON of `/v1/…`."""
        return _json(await self._ask("GET", path, query))

    async def text(self, *path: str) -> str:
        """What is no JSON."""
        return (await self._ask("GET", path, {})).text

    async def post(self, *path: str, body: dict[str, Any]) -> Any:
        """JSON that answers JSON. Only of what reads."""
        return _json(await self._ask("POST", path, {}, body))

    async def _ask(
        self,
        method: str,
        path: tuple[str, ...],
        query: dict[str, Any],
        body: dict[str, Any] | None = None,
    ) -> httpx2.Response:
        if any(part in NOWHERE or "/" in part for part in path):
            # An escaped separator is one again for whoever routes: each part is one, or nothing.
            raise Refused("there is no such id")
        wanted = {name: value for name, value in query.items() if value not in (None, "", ())}
        where = "/v1/" + "/".join(quote(part, safe="") for part in path)
        try:
            response = await self._client.request(method, where, params=wanted, json=body)
        except httpx2.HTTPError as error:
            raise Refused(
                f"no answer from the service ({type(error).__name__}); start it with `redis-oncall "
                "serve`, or set REDIS_ONCALL_URL"
            ) from None
        except ValueError:  # a text that is no Unicode
            raise Refused("the arguments cannot be sent: they are no JSON in UTF-8") from None
        if not response.is_success:
            raise Refused(_reason(response))
        return response


class _Answer(dict[str, Any]):
    """An object that says what it lacks."""

    def __missing__(self, name: str) -> Any:
        raise Refused(f"{STRANGER}: its answer has no {name}")


def _json(response: httpx2.Response) -> Any:
    try:
        found = response.json(object_hook=_Answer)
    except ValueError:
        raise Refused(f"{STRANGER}: no JSON") from None
    if not isinstance(found, _Answer):
        raise Refused(f"{STRANGER}: its answer is no object")
    return found


def _reason(response: httpx2.Response) -> str:
    try:
        problem = ProblemDetails.model_validate_json(response.content)
    except ValidationError:
        return f"the service answered with {response.status_code}"
    fields = [f"{error.field.removeprefix('body.')}: {error.message}" for error in problem.errors]
    said = f"the service said {problem.status}: {'; '.join([problem.detail, *fields])}"
    if response.status_code == 401:
        said += "; the token comes from REDIS_ONCALL_TOKEN or the client's configuration"
    return printable(said, LONGEST_REFUSAL)
