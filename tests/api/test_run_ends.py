"""What a run still looks at when it is stopped ends with it."""

import asyncio
import os
import signal
from collections.abc import Callable

from agent.case import CaseFile
from agent.context import Context
from agent.incident import Incident
from api.app import create_app
from api.settings import Settings
from evals import servers
from tests.api.serving import serving
from tests.api.test_incidents_api import opened
from tests.api.test_worker import reaches


async def test_a_look_that_is_cut_off_with_its_run_is_no_finding(
    settings: Callable[..., Settings], start_server: Callable[..., servers.Server]
) -> None:
    """The worker is told to stop while the server hangs: the next one looks for itself."""
    server = start_server(servers.BUILDS[-1])
    target = {"name": "cache-eu", "url": server.url, "match": {"instance": "cache-eu"}}
    configured = settings(targets=[target])
    under_way = asyncio.Event()

    async def looks(context: Context, incident: Incident) -> None:
        case = CaseFile(context, incident, context.library, await context.journal.evidence())
        if incident.status == "queued":
            await context.journal.set_status("investigating")
            os.kill(server.pid, signal.SIGSTOP)
            asyncio.get_running_loop().call_later(0.2, under_way.set)
        await asyncio.gather(*(case.look(tool, {}) for tool in ("server_info", "memory_info")))
        await context.journal.set_status("needs_human", "looked")

    try:
        async with serving(create_app(configured, run_graph=looks)) as client:
            one = await opened(client)
            await asyncio.wait_for(under_way.wait(), 10)
        looking = [
            task for task in asyncio.all_tasks() if "CaseFile._look" in repr(task.get_coro())
        ]
        assert not looking, "the service has ended, and its connection to the target is closed"
    finally:
        os.kill(server.pid, signal.SIGCONT)
    async with serving(create_app(configured, run_graph=looks)) as client:
        incident = await reaches(client, one["id"], "needs_human")
        whole = await client.get(f"/v1/incidents/{one['id']}/evidence/E1")
    assert sorted(piece.tool for piece in incident.evidence) == ["memory_info", "server_info"]
    assert whole.json()["measured"]
    assert incident.usage.tool_calls == 2
