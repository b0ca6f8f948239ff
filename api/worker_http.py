"""What a worker on its own answers: /healthz, /readyz and /metrics, and nothing else."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import structlog
import uvicorn
from fastapi import FastAPI

from agent.runbook import Library
from api import health, problems
from api.auth import Tokens
from api.connections import server_options
from api.limits import Limits
from api.observed import Observed
from api.queue import Queue
from api.security_headers import SecurityHeaders
from api.service import Service
from api.settings import Settings, SettingsError
from api.sign_ins import SignIns
from api.store.database import Database

log = structlog.get_logger(__name__)


class _Server(uvicorn.Server):
    """Ends when it is told to; signals are the worker's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


@asynccontextmanager
async def answering(
    settings: Settings, database: Database, queue: Queue, sign_ins: SignIns
) -> AsyncIterator[None]:
    """Answer at REDIS_ONCALL_WORKER_PORT until the block ends; without one, nowhere.

    /metrics takes a token like that of `serve`. Raises SettingsError if it cannot listen there.
    """
    if settings.worker_port is None:
        yield
        return
    settings.check_exposure()
    app = FastAPI(openapi_url=None)
    app.state.tokens, app.state.sign_ins = Tokens(settings), sign_ins
    app.state.service = Service(
        settings, database, queue, Library(runbooks=[]), settings.agent_targets()
    )
    problems.install(app)
    app.add_middleware(Limits)
    app.add_middleware(Observed)
    app.add_middleware(SecurityHeaders, tls=settings.config.http.hsts)
    app.include_router(health.router)
    listener = _listen(settings.host, settings.worker_port)
    options = server_options(settings) | {"lifespan": "off", "timeout_graceful_shutdown": 1}
    config = uvicorn.Config(app, **options)
    server = _Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    log.info("worker_listens", host=settings.host, port=listener.getsockname()[1])
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.gather(serving, return_exceptions=True)
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family)
    except OSError as error:
        raise SettingsError(
            f"REDIS_ONCALL_WORKER_PORT: cannot listen at {host}, port {port} ({error.strerror})"
        ) from None
