"""kill -9 before and after every step that touches the server, with the checkpoints on disk."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from redis import Redis

from agent import executor, rollback, verification
from agent.context import Context
from agent.graph import build_graph
from agent.incident import Action, Approval, fingerprint
from agent.run import advance
from agent.work import identify
from evals.servers import Server
from tests.agent.operating import AT_ONCE
from tests.agent.test_graph import context_for, fill_sessions
from tools.remedies.config import SetConfig
from tools.remedies.remedy import Verification

ANN = Approval(by="ann", role="admin", at=datetime.now(UTC))


class Killed(BaseException):
    """kill -9."""


async def resume(context: Context, checkpoints: Path) -> None:
    """A new process: what it knows is in the journal and in the checkpoints."""
    async with AsyncSqliteSaver.from_conn_string(str(checkpoints)) as saver:
        await advance(build_graph(saver), context, await context.journal.incident())


def die_twice(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, deaths: Counter[str]
) -> None:
    """For each action: die before the step, die after it, then let it pass."""
    step: Callable[..., Any] = getattr(module, name)

    async def dying(context: Context, action: Action) -> Action:
        deaths[f"{name} {action.id}"] += 1
        if deaths[f"{name} {action.id}"] == 1:
            raise Killed
        done: Action = await step(context, action)
        if deaths[f"{name} {action.id}"] == 2:
            raise Killed
        return done

    monkeypatch.setattr(module, name, dying)


async def another(context: Context, beside: Action) -> Action:
    arguments = {"parameter": "hz", "value": "50"}
    identity = await identify(context.connection)
    changes = {"id": "A9", "kind": "set_config", "risk": "R1", "arguments": arguments}
    print_of = fingerprint("set_config", arguments, identity, beside.evidence)
    return beside.model_copy(update=changes | {"fingerprint": print_of})


async def test_two_approved_actions_one_rolled_back_through_every_crash(
    start_server: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_server("valkey-9.1")
    fill_sessions(server.port)
    context, journal, connection = await context_for(server)
    context = replace(context, policy=AT_ONCE)
    await resume(context, tmp_path / "checkpoints")
    plan = (await journal.incident()).plan
    expire = next(action for action in plan.actions if action.kind == "expire_prefix")
    plan.actions.append(await another(context, expire))
    await journal.set_plan(plan)
    for action in plan.actions:
        if action.executable:
            approved = {"status": "approved", "approvals": [ANN]}
            await journal.save_action(action.model_copy(update=approved))

    async def worse(*_: object) -> Verification:
        return Verification(helped=False, because="it got worse")

    monkeypatch.setattr(SetConfig, "verify", worse)
    deaths: Counter[str] = Counter()
    steps = {"apply": executor, "verify": verification, "roll_back": rollback}
    for name, module in steps.items():
        die_twice(monkeypatch, module, name, deaths)
    for _ in range(20):
        try:
            await resume(context, tmp_path / "checkpoints")
            break
        except Killed:
            continue

    done = await journal.incident()
    ended = {action.kind: action for action in done.plan.actions if action.executable}
    assert ended["expire_prefix"].status == "verified", ended["expire_prefix"].comment
    assert ended["set_config"].status == "rolled_back", ended["set_config"].comment
    assert "it got worse" in ended["set_config"].comment
    assert min(deaths.values()) >= 2
    executed = [action.kind for action in done.plan.actions if action.executable]
    rolled_back = executed.count("set_config")
    assert len(deaths) == 2 * len(executed) + rolled_back, "applied, verified, rolled back"
    assert (done.status, "rolled_back" in done.ended_because) == ("needs_human", True)
    with Redis(port=server.port, protocol=2) as client:
        assert client.config_get("hz")["hz"] == "10"
        assert client.ttl("session:000001") > 0
    await resume(context, tmp_path / "checkpoints")
    assert await journal.incident() == done
    await connection.close()


class DyingCheckpoints(InMemorySaver):
    """Whoever makes one dies before it is kept: what the step has written is kept already."""

    def __init__(self) -> None:
        super().__init__()
        self.deaths: list[int] = []

    async def aput(self, *told: Any) -> Any:
        """The second time it is kept."""
        step = told[2]["step"]
        if step not in self.deaths:
            self.deaths.append(step)
            raise RuntimeError(f"killed before the checkpoint of step {step}")
        return await super().aput(*told)


async def to_the_end(context: Context, checkpoints: DyingCheckpoints) -> None:
    """One process after another, until one of them has nothing to do."""
    for _ in range(20):
        try:
            await advance(build_graph(checkpoints), context, await context.journal.incident())
            break
        except RuntimeError:
            continue


async def test_who_dies_between_a_step_and_its_checkpoint_is_not_taken_for_finished(
    start_server: Callable[..., Server],
) -> None:
    server = start_server("valkey-9.1")
    fill_sessions(server.port)
    context, journal, connection = await context_for(server)
    checkpoints = DyingCheckpoints()
    await to_the_end(context, checkpoints)
    waiting = await journal.incident()
    assert waiting.status == "awaiting_approval"
    looks = [(piece.tool, str(piece.args), piece.node) for piece in waiting.evidence]
    assert len(looks) == len(set(looks)), "no step was done twice"
    for action in waiting.plan.actions:
        rejected = {"status": "rejected", "rejected_by": "ann"}
        await journal.save_action(action.model_copy(update=rejected))
    await to_the_end(context, checkpoints)
    assert (await journal.incident()).status == "needs_human"
    assert len(checkpoints.deaths) >= 8
    made = [one.metadata async for one in checkpoints.alist(None)]
    assert [one["source"] for one in made].count("input") == 1, "none began again"
    assert sorted(one["step"] for one in made) == checkpoints.deaths
    await connection.close()
