"""An approved action and a world that moves: the real service from the gate on.

The investigation is left out, so that any action can be at the gate: what the API, the worker, the
graph, the executor, verification and roll-back do with it is the real thing, on a real server.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import redis
from httpx2 import AsyncClient
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from sqlalchemy import select

from agent.context import Context, Journal
from agent.graph import GRAPH_VERSION, build_graph
from agent.incident import Action, Diagnosis, Incident, Plan, fingerprint
from agent.run import advance
from agent.work import identify
from api.app import create_app
from api.settings import Settings
from api.store.tables import ActionRow
from evals.servers import Server
from tests.api.serving import as_role, serving, until
from tests.api.test_incidents_api import opened, service_of
from tools.remedies.catalogue import REMEDIES

FINISHED = frozenset({
    "lapsed", "failed", "verified", "rolled_back", "rollback_failed", "outcome_unknown",
})  # fmt: skip


class Door:
    """A port of its own in front of a server, as a DNS name is: what is behind it may change."""

    def __init__(self) -> None:
        self.port = 0
        self.behind = 0
        self._pipes: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def opened(self, behind: int) -> AsyncIterator["Door"]:
        self.behind = behind
        listener = await asyncio.start_server(self._arrived, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            await self._cut()

    async def leads_to(self, port: int) -> None:
        """From now on; connections that are open break, as they do in a failover."""
        self.behind = port
        await self._cut()

    async def _cut(self) -> None:
        pipes = list(self._pipes)
        for pipe in pipes:
            pipe.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)

    async def _arrived(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._joined(reader, writer))
        self._pipes.add(task)
        task.add_done_callback(self._pipes.discard)

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, asks = await asyncio.open_connection("127.0.0.1", self.behind)
        except OSError:
            writer.close()
            return
        ways = [asyncio.ensure_future(_pump(*way)) for way in ((reader, asks), (answers, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.close()
            asks.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while part := await source.read(65_536):
            sink.write(part)
            await sink.drain()


class Gate:
    """One incident on one target, with one action that waits; `approve`, then `let_go`."""

    def __init__(self, server: Server, door: Door, kind: str, arguments: dict[str, Any]) -> None:
        self.server, self.door = server, door
        self.kind, self.arguments = kind, arguments
        self.client: AsyncClient
        self.service = contextlib.AsyncExitStack()
        self.restarted: Callable[..., Awaitable[None]]
        """With another configuration, on the same database."""
        self.incident_id = ""
        self.shown: Action
        self._go, self.leaves = asyncio.Event(), asyncio.Event()
        self._when: dict[str, Callable[[], object]] = {}
        self._graph = build_graph(InMemorySaver())

    async def run(self, context: Context, incident: Incident) -> None:
        """What the worker runs: the graph, entered at the gate."""
        if incident.status == "queued":
            await self._enter(context, incident)
        elif any(action.status != "proposed" for action in incident.plan.actions):
            if not await self._may_go_on():
                return
            context = replace(context, journal=cast("Journal", _Watched(context.journal, self)))
        await advance(self._graph, context, await context.journal.incident())

    async def _may_go_on(self) -> bool:
        waits = [asyncio.ensure_future(event.wait()) for event in (self._go, self.leaves)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return self._go.is_set()

    async def _enter(self, context: Context, incident: Incident) -> None:
        piece = await context.journal.add_evidence(
            "memory_info", {}, {}, measured=True, node=context.connection.node, summary="looked"
        )
        remedy = REMEDIES[self.kind]
        identity = await identify(context.connection)
        preview = await remedy.preview(
            context.connection, remedy.args.model_validate(self.arguments)
        )
        action = Action(
            id="A1",
            fingerprint=fingerprint(self.kind, self.arguments, identity, [piece.id]),
            kind=self.kind,
            title=preview.title,
            arguments=self.arguments,
            risk=remedy.risk,
            commands=preview.commands,
            evidence=[piece.id],
            expires_at=datetime.now(UTC) + timedelta(hours=1),
        )
        await context.journal.set_status("investigating")
        await context.journal.set_diagnosis(
            Diagnosis(root_cause="organic-growth", title="t", is_incident=True, confidence=0.9,
                      summary="s")
        )  # fmt: skip
        await context.journal.set_plan(Plan(actions=[action]))
        config: RunnableConfig = {
            "configurable": {"thread_id": f"{incident.id}/{incident.attempt}/{GRAPH_VERSION}"}
        }
        await self._graph.aupdate_state(config, {"mismatches": []}, as_node="propose")

    async def incident(self) -> Incident:
        shown = await self.client.get(f"/v1/incidents/{self.incident_id}")
        return Incident.model_validate(shown.json())

    async def action(self) -> Action:
        return (await self.incident()).plan.actions[0]

    async def is_open(self) -> None:
        async def waiting() -> bool:
            return (await self.incident()).status == "awaiting_approval"

        await until(waiting, what="the gate")
        self.shown = await self.action()

    async def approve(self, role: str = "approver") -> Action:
        """Of exactly what was shown; it is not applied before `let_go`."""
        said = await self.client.post(
            f"/v1/incidents/{self.incident_id}/actions/A1/approve",
            json={"fingerprint": self.shown.fingerprint, "comment": "go"},
            headers=as_role(role),
        )
        assert said.status_code == 200, said.text
        return Action.model_validate(said.json())

    async def let_go(self) -> Action:
        """The worker goes on; the action as it ended."""
        self._go.set()

        async def ended() -> Action | None:
            action = await self.action()
            done = action.status in FINISHED and (await self.incident()).ended_because
            return action if done else None

        found: Action = await until(ended, 60.0, "the end of the action")
        return found

    def after(self, status: str, happens: Callable[[], object]) -> None:
        """As soon as the action is kept with this status, this happens, once."""
        self._when[status] = happens

    async def happened(self, status: str) -> None:
        """Tell those who waited for it."""
        if happens := self._when.pop(status, None):
            await asyncio.to_thread(happens)

    async def alter(self, change: Callable[[ActionRow], None]) -> None:
        """What somebody with the database's password could do."""
        async with service_of(self.client).database.writing() as session:
            row = await session.scalar(
                select(ActionRow).where(ActionRow.incident_id == self.incident_id)
            )
            assert row is not None
            change(row)


Waiting = Callable[..., contextlib.AbstractAsyncContextManager[Gate]]


def waiting_with(settings: Callable[..., Settings]) -> Waiting:
    """`async with waiting(server, kind, arguments) as gate`: an action waits for approval."""

    @contextlib.asynccontextmanager
    async def waiting(server: Server, kind: str, /, **arguments: Any) -> AsyncIterator[Gate]:
        async with Door().opened(server.port) as door:
            gate = Gate(server, door, kind, arguments)
            url = f"redis://127.0.0.1:{door.port}"
            target = {"name": "cache-eu", "url": url, "remedy_url": url, "environment": "staging"}

            async def start(**config: Any) -> None:
                configured = settings(targets=[target], **config)
                gate.leaves.set()
                await gate.service.aclose()
                gate.leaves.clear()
                gate.client = await gate.service.enter_async_context(
                    serving(create_app(configured, run_graph=gate.run))
                )

            gate.restarted = start
            async with gate.service:
                await start()
                gate.incident_id = (await opened(gate.client, "cache-eu"))["id"]
                await gate.is_open()
                yield gate

    return waiting


def asked(client: "redis.Redis", parameter: str) -> str:
    """CONFIG GET."""
    return str(client.config_get(parameter)[parameter])


async def wait_for(condition: Callable[[], Any], what: str) -> None:
    """Until the server shows it."""

    async def shown() -> Any:
        return await asyncio.to_thread(condition)

    await until(shown, 20.0, what)


class _Watched:
    """The worker's journal; what is kept of the action is seen as it is kept."""

    def __init__(self, journal: Journal, gate: Gate) -> None:
        self._journal, self._gate = journal, gate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    async def save_action(self, action: Action, **intent_or_outcome: Any) -> None:
        await self._journal.save_action(action, **intent_or_outcome)
        await self._gate.happened(action.status)
