"""A resize in the plan: an order where the user's own hook can place it, a proposal everywhere."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest
import redis

from agent.incident import Action
from api.resize_hook import Terms, command_hook
from evals.servers import Server
from tests.agent.test_planning import Case, diagnosis
from tools.opening import open_for_reading
from tools.remedies.operation import ResizeHook

MIB = 1 << 20


def hook(**terms: bool) -> ResizeHook:
    return command_hook(["/opt/resize"], {}, Terms("cache-1", 60.0, 1_800.0, **terms))


async def planned(
    start_server: Callable[..., Server],
    own: ResizeHook | None,
    cause: str = "organic-growth",
    *arguments: str,
    memory_limit: int | None = None,
) -> list[Action]:
    server = start_server("valkey-9.1", "--maxmemory", "64mb", *arguments)
    with closing(redis.Redis(port=server.port)) as client:
        client.mset({f"k:{number}": "x" * 10_000 for number in range(5_000)})
    reading = await open_for_reading(server.url)
    try:
        case = Case(server.url, reading, memory_limit=memory_limit)
        case.context = replace(case.context, resize_hook=own)
        plan = await case.plan(diagnosis(cause), "memory_info", "config_get")
    finally:
        await reading.close()
    return [action for action in plan.actions if "resize" in action.kind]


async def test_with_a_hook_the_seed_runbooks_first_option_can_be_approved(
    start_server: Callable[..., Server],
) -> None:
    (action,) = await planned(start_server, hook(), "organic-growth", "--appendonly", "yes")
    assert (action.kind, action.risk, action.executable) == ("resize_instance", "R4", True)
    assert action.approvals_required == 2
    assert action.arguments["current_limit"] == 64 * MIB
    assert action.arguments["limit_is"] == "maxmemory"
    assert action.arguments["recommended_maxmemory"] > 64 * MIB
    assert all(precondition.holds for precondition in action.preconditions)
    assert "append-only file is on" in action.blast_radius
    lines = action.artefact.splitlines()
    assert max(map(len, lines)) <= 76
    assert any("used_memory_peak" in line for line in lines)


@pytest.mark.parametrize(
    ("own", "arguments"),
    [(None, ("--appendonly", "yes")), (hook(), ())],
    ids=["no hook", "nothing outlives a restart"],
)
async def test_else_it_stays_a_proposal_with_artefacts(
    start_server: Callable[..., Server], own: ResizeHook | None, arguments: tuple[str, ...]
) -> None:
    (action,) = await planned(start_server, own, "organic-growth", *arguments)
    assert (action.kind, action.executable) == ("instance_resize", False)
    for words in ("needed in all", "Full", "scale up (better)", "azurerm", "kubectl"):
        assert words in action.artefact


async def test_a_hook_that_keeps_the_data_needs_no_file(
    start_server: Callable[..., Server],
) -> None:
    (action,) = await planned(start_server, hook(keeps_data=True))
    assert action.kind == "resize_instance"


async def test_what_a_buffer_would_fill_is_not_made_larger(
    start_server: Callable[..., Server],
) -> None:
    found = await planned(start_server, hook(keeps_data=True), "slow-pubsub-cob")
    assert found == []
