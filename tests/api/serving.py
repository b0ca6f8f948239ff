"""Running the service inside a test: tokens, targets, a client, and waiting."""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI

from api.connections import server_options
from api.settings import Settings

TOKENS = {role: f"roc_{role}01_{role * 6}" for role in ("viewer", "responder", "approver", "admin")}
TARGETS = [
    {
        "name": "cache-eu",
        "url": "redis://u:p4ssw0rd@127.0.0.1:1/0",
        "match": {"instance": "cache-eu"},
    },
    {
        "name": "cache-us",
        "url": "redis://127.0.0.1:1/0",
        "environment": "staging",
        "match": {"instance": "cache-us"},
    },
]


def sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def token_entries() -> list[dict[str, str]]:
    entries = [{"name": f"{r}-1", "role": r, "sha256": sha256(t)} for r, t in TOKENS.items()]
    return [
        *entries,
        {"name": "approver-2", "role": "approver", "sha256": sha256("roc_approver2_x")},
        {"name": "prometheus", "role": "source", "sha256": sha256("roc_source1_x")},
    ]


def as_role(role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS.get(role, role)}"}


@contextlib.asynccontextmanager
async def serving(app: FastAPI, role: str = "admin") -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the running application."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", headers=as_role(role)
        ) as client,
    ):
        yield client


@contextlib.asynccontextmanager
async def listening(app: FastAPI, settings: Settings) -> AsyncIterator[str]:
    """The URL of the application behind a real server, as `serve` runs it."""
    options = server_options(settings.model_copy(update={"port": 0}))
    server = uvicorn.Server(uvicorn.Config(app, **options))
    running = asyncio.create_task(server.serve())
    while not server.started:
        assert not running.done()
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await running


async def until(
    condition: Callable[[], Awaitable[Any]], seconds: float = 15.0, what: str = "the condition"
) -> Any:
    """What the condition returns soon after it is true.

    Ever more seldom asked: whoever asks the service all the time keeps it from what is waited for.
    """
    deadline, pause = time.monotonic() + seconds, 0.02
    while not (found := await condition()):
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds} s"
        await asyncio.sleep(pause)
        pause = min(1.3 * pause, 0.25)
    return found
