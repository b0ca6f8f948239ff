"""The application: `create_app(settings)`."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

import structlog
from fastapi import Depends, FastAPI

from api import (
    actions,
    catalogues,
    chat,
    console,
    events,
    freezes,
    health,
    incidents,
    logs,
    looking,
    openapi,
    problems,
    recordings,
    reports,
    silences,
    tracing,
    transcripts,
)
from api.alerts import endpoints
from api.auditing import audited
from api.auth import Tokens
from api.console import pages
from api.console.sessions import Sessions, SignInNeeded
from api.keys import KeyUnusable
from api.limits import ALWAYS, Limits
from api.mcp import endpoint as mcp
from api.notifications import Notifier
from api.observed import Observed
from api.own_worker import worker_beside
from api.problems import documented
from api.queue import IN_MEMORY, Nudges, open_queue
from api.reasoning import language_model
from api.rotation import rotating
from api.run_telemetry import start_tracing
from api.security_headers import KnownHosts, SecurityHeaders
from api.service import Service
from api.settings import Settings
from api.sign_ins import SignIns
from api.store.audit import WrongKey
from api.store.database import Database, database_url
from api.store.migrate import TablesRefused, migrate
from api.unusable import told_plainly

if TYPE_CHECKING:
    from api.worker import OpenReading, RunGraph

log = structlog.get_logger(__name__)
_ERRORS = documented(401, 403, 408, 413, 414, 421, 422, 429, 431, 503)


def create_app(
    settings: Settings,
    *,
    worker: bool = True,
    own_worker: Sequence[str] = (),
    run_graph: "RunGraph | None" = None,
    open_reading: "OpenReading | None" = None,
) -> FastAPI:
    """The service. `worker`: work on incidents in this process, too.

    `own_worker`: in one beside it, which Python runs with these arguments.
    `run_graph` and `open_reading` stand for the graph and the targets, in tests and benchmarks.
    """
    from agent.runbook_library import load_library

    logs.configure()
    for path in settings.exposed:
        log.warning("secret_exposed", file=path, because="every user of this machine may read it")
    start_tracing(settings)
    notifier = Notifier(settings)  # an address that cannot be read stops the start
    library = load_library(settings.runbooks)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.callback(tracing.close)
            database = Database(database_url(settings.database_url.get_secret_value()))
            stack.push_async_callback(database.close)
            database.routes = notifier.routes
            try:
                with told_plainly(settings):
                    migrated = await migrate(database, checkpoints=worker)
                    await stack.enter_async_context(
                        audited(settings, database, "serve", migrated, app.state.sign_ins)
                    )
            except (WrongKey, KeyUnusable, TablesRefused) as refused:
                app.state.refused_to_start = str(refused)
                raise
            app.state.sessions = await asyncio.to_thread(Sessions, settings)
            rotation = await stack.enter_async_context(rotating(settings, database))
            url = settings.queue.get_secret_value()
            told_directly = bool(own_worker) and url.startswith(IN_MEMORY)
            nudges: Nudges
            if not told_directly:
                queue, docket = await stack.enter_async_context(open_queue(url, database))
                nudges = queue
            if own_worker:
                beside = await stack.enter_async_context(worker_beside(own_worker))
                rotation.hand_on = beside.hang_up
                nudges = beside if told_directly else nudges
            app.state.service = Service(
                settings, database, nudges, library, settings.agent_targets()
            )
            if worker:
                from api.worker import working_on  # what it needs takes 40 MB

                await stack.enter_async_context(
                    working_on(settings, database, queue, docket, run_graph, open_reading)
                )
            asyncio.get_running_loop().run_in_executor(None, pages.warm)
            log.info(
                "started", targets=len(app.state.service.targets), worker=worker or bool(own_worker)
            )
            yield

    app = FastAPI(
        title="redis-oncall",
        summary="An on-call engineer for Redis and Valkey",
        version=version("redis-oncall"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.tokens = Tokens(settings)
    app.state.sign_ins = SignIns()
    app.state.refused_to_start = ""
    app.state.model = language_model(settings)
    problems.install(app, pages.as_page)
    app.add_exception_handler(SignInNeeded, pages.to_sign_in)
    # The last added comes first.
    app.add_middleware(Limits, as_page=pages.as_page)
    if hosts := settings.config.http.hosts:
        app.add_middleware(KnownHosts, hosts=hosts, exempt=ALWAYS)
    app.add_middleware(Observed, as_page=pages.as_page)
    app.add_middleware(SecurityHeaders, tls=settings.config.http.hsts)
    for router in (
        endpoints.router, incidents.router, actions.router, freezes.router, silences.router,
        events.router, chat.router, looking.router, catalogues.router, recordings.router,
        reports.router, transcripts.router, mcp.router,
    ):  # fmt: skip
        app.include_router(
            router, responses=_ERRORS, dependencies=[Depends(problems.only_known_query)]
        )
    app.include_router(health.router)
    for router in console.ROUTERS:
        app.include_router(router)
    openapi.complete(app)
    return app
