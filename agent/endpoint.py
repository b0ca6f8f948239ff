"""The wire to a model: one request to an OpenAI-compatible endpoint, wherever it is."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from agent.budget import ModelSettings
from agent.retrying import EndpointError, broke_off
from agent.streaming import read_reply
from tools.secret_shapes import TOKEN

if TYPE_CHECKING:
    import httpx2
    from openai import APIStatusError, AsyncOpenAI

CONNECT_SECONDS = 5.0
LARGEST_ERROR = 64_000
"""Bytes of an error's body, as sent; the library reads it whole."""
LEAST_SECRET = 8
"""Characters of a key or header that are looked for in errors; fewer are words."""
AZURE = (
    ".openai.azure.com",
    ".cognitiveservices.azure.com",
    ".services.ai.azure.com",
    ".azure-api.net",
)


@dataclass(frozen=True)
class Address:
    """Where requests go, and with what besides their body."""

    base_url: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Secret."""
    azure: bool
    """The key goes into `api-key`."""


def address(settings: ModelSettings) -> Address:
    """From what was configured, in any of the usual styles.

    Azure is known by its host or by an API version. Its newer addresses (`/openai/v1`) need
    nothing more; with an API version, requests go to the deployment that `model` names.
    """
    parts = urlsplit(settings.base_url)
    query = dict(parse_qsl(parts.query))
    if settings.api_version:
        query.setdefault("api-version", settings.api_version)
    host = parts.hostname or ""
    azure = host.endswith(AZURE) or "api-version" in query
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    if azure and path in ("", "/openai"):
        old = f"/openai/deployments/{quote(settings.model, safe='')}"
        path = old if "api-version" in query else "/openai/v1"
    base_url = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
    return Address(base_url, query, settings.headers, azure)


class Endpoint:
    """Sends requests. Nothing of it comes from the environment."""

    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings
        self._client: AsyncOpenAI | None = None
        self._opening = asyncio.Lock()
        self._tried_v1 = False
        self._omitted: dict[str, Any] = {}
        """Headers that the library would send, and must not."""

    async def send(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The reply, whole. Raises EndpointError; TimeoutError if the library gave up waiting."""
        client = await self._open()
        try:
            return await self._send(client, parameters)
        except EndpointError as error:
            if error.status != 404 or client.base_url.path != "/" or self._tried_v1:
                raise
        # An address without a path: most servers keep Chat Completions under /v1.
        self._tried_v1 = True
        as_configured, client.base_url = client.base_url, client.base_url.join("/v1/")
        try:
            return await self._send(client, parameters)
        except EndpointError as error:
            if error.status == 404:
                client.base_url = as_configured
            raise

    async def _send(self, client: "AsyncOpenAI", parameters: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return await self._request(client, parameters)
        except EndpointError as error:
            # Some repeat the key they refuse, and not every key looks like one.
            for secret in (self._settings.api_key.strip(), *self._settings.headers.values()):
                if len(secret) >= LEAST_SECRET:
                    error.body = _without(secret, error.body)
            raise

    async def _request(
        self, client: "AsyncOpenAI", parameters: Mapping[str, Any]
    ) -> dict[str, Any]:
        import httpx2
        import openai

        body = dict(parameters)
        try:
            async with client.chat.completions.with_streaming_response.create(
                model=body.pop("model"),
                messages=body.pop("messages"),
                extra_body=body,
                extra_headers=self._omitted,
            ) as response:
                arriving = response.http_response.aiter_bytes()
                return await read_reply(arriving, self._settings.idle_seconds)
        except openai.APITimeoutError as error:
            if isinstance(error.__cause__, httpx2.ConnectTimeout):
                raise _unreachable() from error
            raise TimeoutError from error
        except openai.APIConnectionError as error:
            raise _unreachable() from error
        except openai.APIStatusError as error:
            raise _refused(error) from error
        except httpx2.TimeoutException as error:
            raise TimeoutError from error
        except httpx2.HTTPError as error:
            raise broke_off() from error
        except EndpointError:
            raise
        except Exception as error:
            # A library's own failure must not cost the incident the diagnosis of the rules.
            raise EndpointError(f"the model's client failed: {type(error).__name__}") from error

    async def close(self) -> None:
        """Close connections. Repeatable."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _open(self) -> "AsyncOpenAI":
        async with self._opening:
            if self._client is None:
                # Importing openai and loading certificates block: not on the event loop.
                try:
                    self._client = await asyncio.to_thread(self._connect)
                except (OSError, ValueError) as error:
                    because = f"the model's client cannot be set up: {type(error).__name__}"
                    raise EndpointError(because) from error
            return self._client

    def _connect(self) -> "AsyncOpenAI":
        import httpx2
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Omit

        settings, at = self._settings, address(self._settings)
        key = settings.api_key.strip() or "not-needed"
        headers = {"api-key": key} if at.azure else {}
        own = {name.title() if name.lower() == "authorization" else name.lower(): value
               for name, value in at.headers.items()}  # fmt: skip
        if at.azure and "Authorization" not in own:
            self._omitted = {"Authorization": Omit()}
        client = AsyncOpenAI(
            api_key=key,
            base_url=at.base_url,
            default_query=dict(at.query),
            default_headers=headers | own,
            max_retries=0,
            http_client=DefaultAsyncHttpxClient(
                # Only `api/settings.py` reads the environment.
                trust_env=False,
                # The prompt, the key and a gateway's headers go where they were sent, or nowhere.
                follow_redirects=False,
                proxy=settings.proxy or None,
                verify=_trusted(settings.ca_file),
                timeout=httpx2.Timeout(settings.seconds_per_call, connect=CONNECT_SECONDS),
                event_hooks={"response": [_bound_error]},
            ),
        )
        # The library fills these from the environment.
        client.organization = client.project = None
        return client


@cache
def _trusted(ca_file: str) -> ssl.SSLContext:
    """The authorities of this file, else the usual ones; loaded once."""
    import httpx2

    if ca_file:
        return ssl.create_default_context(cafile=ca_file)
    return httpx2.create_ssl_context(trust_env=False)


async def _bound_error(response: "httpx2.Response") -> None:
    """Let an error's body end where it has said enough."""
    import httpx2

    class Bounded(httpx2.AsyncByteStream):
        def __init__(self, stream: httpx2.AsyncByteStream) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            left = LARGEST_ERROR
            async for piece in self._stream:
                yield piece[:left]
                left -= len(piece)
                if left <= 0:
                    return

        async def aclose(self) -> None:
            await self._stream.aclose()

    if not response.is_success and isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = Bounded(response.stream)


def _without(secret: str, body: Any) -> Any:
    if isinstance(body, str):
        return body.replace(secret, TOKEN)
    text = json.dumps(body, default=str)
    return json.loads(text.replace(json.dumps(secret)[1:-1], TOKEN))


def _unreachable() -> EndpointError:
    return EndpointError("the model's endpoint cannot be reached", broken=True)


def _refused(error: "APIStatusError") -> EndpointError:
    return EndpointError(
        f"the model's endpoint answered {error.status_code}",
        status=error.status_code,
        body=error.body if error.body is not None else error.response.text,
        headers=dict(error.response.headers),
    )
