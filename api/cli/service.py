"""`serve` and `worker`."""

import contextlib
import os
import socket
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING

import typer

from api import shared_metrics
from api.cli.oneshot import failure, settings_or_exit
from api.settings import Settings, SettingsError

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from api.worker import OpenReading

OWN_WORKER = ("-m", "api.cli", "worker", "--nudged")
"""What Python runs for the worker of a `serve`."""
NICENESS = 5
"""Of a worker: where `serve` wants the last core, too, an alert is answered first."""


def serve(
    host: str | None,
    port: int | None,
    *,
    worker: bool,
    own_worker: Sequence[str] | None = None,
) -> None:
    """Run the HTTP API, with a worker in a process beside it unless told otherwise.

    `own_worker`: what Python runs for that, instead of OWN_WORKER.
    """
    if worker:
        shared_metrics.share()
    try:
        _serve(host, port, (own_worker or OWN_WORKER) if worker else ())
    finally:
        shared_metrics.forget()


def _serve(host: str | None, port: int | None, own_worker: Sequence[str]) -> None:
    import uvicorn

    from api.app import create_app
    from api.collecting import settle
    from api.connections import server_options
    from api.peer import Peers
    from api.stopping import exit_in_time

    settings = _settings_to_serve(host, port)
    try:
        app = create_app(settings, worker=False, own_worker=own_worker)
    except SettingsError as error:
        raise failure(str(error), code=2) from None

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            exit_in_time()
            super().handle_exit(sig, frame)

        async def startup(self, sockets: "list[socket.socket] | None" = None) -> None:
            await super().startup(sockets)
            if self.started and settings.port == 0:
                port = self.servers[0].sockets[0].getsockname()[1]
                typer.echo(f"redis-oncall: http://{settings.host}:{port}", err=True)
            settle()  # here, not where an application is made: that may be done many times

    async def plainly(scope: "Scope", receive: "Receive", send: "Send") -> None:
        """What refuses to start is told in a sentence at the end, without a traceback before it."""

        async def told(message: "Message") -> None:
            if app.state.refused_to_start:
                message.pop("message", None)
            await send(message)

        await app(scope, receive, told if scope["type"] == "lifespan" else send)

    answering = Peers(plainly, settings.forwarding_proxies)
    server = Server(uvicorn.Config(answering, **server_options(settings)))
    # What it ends with when it cannot start differs by its version.
    with contextlib.suppress(KeyboardInterrupt, SystemExit):
        server.run()
    if not server.started:
        if because := app.state.refused_to_start:
            raise failure(because)
        raise typer.Exit(3)


def _settings_to_serve(host: str | None, port: int | None) -> Settings:
    """Those of the environment at this address, which is free; it is told."""
    settings = settings_or_exit()
    settings = settings.model_copy(
        update={"host": host or settings.host, "port": settings.port if port is None else port}
    )
    try:
        settings.check_exposure()
    except SettingsError as error:
        raise failure(str(error), code=2) from None
    who = f"{len(settings.tokens)} tokens" if settings.tokens else "no tokens: local admin"
    _must_be_free(settings.host, settings.port)
    typer.echo(
        f"redis-oncall: http://{settings.host}:{settings.port or '…'} "
        f"({len(settings.agent_targets())} targets, {who})"
        + (" DRY RUN: nothing is written" if settings.policy.dry_run else ""),
        err=True,
    )
    return settings


def _must_be_free(host: str, port: int) -> None:
    """Asked before a worker is started, which would be for nothing."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host.strip("[]"), port), family=family).close()
    except socket.gaierror:
        pass  # a name of another family, perhaps: the server itself tries them all
    except OSError as error:
        raise failure(
            f"cannot listen at {host}, port {port} ({error.strerror}); choose another with --port "
            "or REDIS_ONCALL_PORT"
        ) from None


def work(
    open_reading: "OpenReading | None" = None, port: int | None = None, *, nudged: bool = False
) -> None:
    """Work the queue until told to stop. `nudged`: by the `serve` that started it."""
    import uvloop

    from api.keys import KeyUnusable
    from api.store.audit import WrongKey
    from api.store.migrate import TablesRefused
    from api.worker import run_worker

    os.nice(NICENESS)
    try:
        settings = settings_or_exit()
        if port is not None or nudged:  # that of a `serve` is asked there
            settings = settings.model_copy(update={"worker_port": port})
        uvloop.run(run_worker(settings, open_reading=open_reading, nudged=nudged))
    except (WrongKey, KeyUnusable, TablesRefused) as refused:
        raise failure(str(refused)) from None
    except SettingsError as error:
        raise failure(str(error), code=2) from None
