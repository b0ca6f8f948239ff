"""Plans made on real servers with the real runbooks: right numbers, least risk first, no harm."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from agent import executor, verification
from agent.causes import CATALOGUED
from agent.context import Context, Target
from agent.contraindications import HARMFUL, is_harmful
from agent.incident import (
    Approval,
    Claim,
    Culprit,
    CulpritKind,
    Diagnosis,
    Fact,
    Incident,
    Plan,
    RunbookMatch,
    fingerprint,
)
from agent.memory_journal import MemoryJournal
from agent.planning import propose
from agent.runbook_library import load_library
from agent.work import identify
from evals import servers
from evals.pouring import pour
from evals.servers import Server
from tests.agent.operating import AT_ONCE
from tests.tools.load import stuck_subscriber
from tools.connection import Connection, LiveConnection
from tools.opening import open_for_reading
from tools.permissions import READ_WRITE
from tools.reading import NotMeasured
from tools.reads import READS
from tools.remedies.catalogue import REMEDIES
from tools.remedies.idle_clients import SHORTEST_IDLE
from tools.remedies.vitals import MIB

NOW = datetime.now(UTC)
LIBRARY = load_library()
LOOKS = ("memory_info", "config_get", "keyspace", "bigkeys", "clients")
pytestmark = pytest.mark.usefixtures("close_samples")
LONGEST_WAIT = 0.2


def incident() -> Incident:
    return Incident(
        id="i-1",
        status="investigating",
        severity="critical",
        title="RedisMemoryHigh",
        target="cache-1",
        opened_at=NOW,
        updated_at=NOW,
        runbooks=[RunbookMatch(id="memory-pressure", why="the alert's name")],
    )


def diagnosis(cause: str, kind: CulpritKind = "none", name: str = "", *others: str) -> Diagnosis:
    fact = Fact(name="n", evidence="E1", of=["used_memory"], unit="bytes", value=1)
    return Diagnosis(
        root_cause=cause,
        title=cause,
        is_incident=True,
        confidence=0.9,
        summary="",
        contributing=list(others),
        culprit=Culprit(kind=kind, name=name),
        claims=[Claim(text="Memory in use is 1 B.", facts=[fact])],
    )


class Case:
    """One server under investigation."""

    def __init__(self, url: str, reading: Connection, **target: Any) -> None:
        self.url = url
        self.journal = MemoryJournal(incident())
        self.context = Context(
            Target("cache-1", url, **target), reading, self.open, self.journal, LIBRARY,
            None,  # type: ignore[arg-type]
            policy=AT_ONCE,
        )  # fmt: skip

    async def open(self) -> Connection:
        connection = LiveConnection(self.url, READ_WRITE, reconnects=0)
        await connection.open()
        return connection

    async def plan(self, found: Diagnosis, *looks: str) -> Plan:
        for name in ("instance_resize", *looks):
            # The sizing's two samples may lie close together here: nothing grows meanwhile.
            args = {"seconds": 1.0} if name == "instance_resize" else {}
            reading = await READS[name].call(self.context.connection, args)
            await self.journal.add_evidence(
                name,
                {},
                reading.model_dump(mode="json"),
                measured=not isinstance(reading, NotMeasured),
                node="",
                summary="",
            )
        evidence = await self.journal.evidence()
        return await propose(self.context, await self.journal.incident(), found, evidence)


async def plan_for(server: Server, found: Diagnosis, *looks: str, **target: Any) -> Plan:
    reading = await open_for_reading(server.url)
    try:
        return await Case(server.url, reading, **target).plan(found, *looks)
    finally:
        await reading.close()


def fill_sessions(server: Server) -> None:
    pour(server.port, (("SET", f"session:{n}", "x" * 500) for n in range(5_000)))
    pour(server.port, (("SET", f"session:new:{n}", "x", "EX", 7_200) for n in range(50)))


@pytest.fixture
def client(server: Server) -> Iterator["redis.Redis"]:
    with closing(redis.Redis(port=server.port, protocol=2)) as opened:
        yield opened


async def test_keys_without_expiry_get_one_and_the_plan_can_be_carried_out(
    server: Server, client: "redis.Redis"
) -> None:
    fill_sessions(server)
    used = client.info("memory")["used_memory"]
    client.config_set("maxmemory", used + MIB // 2)
    reading = await open_for_reading(server.url)
    case = Case(server.url, reading, environment="staging")
    found = diagnosis("missing-ttl-prefix-leak", "prefix", "session:", "noeviction-oom")
    plan = await case.plan(found, *LOOKS)
    assert [action.id for action in plan.actions] == [f"A{n + 1}" for n in range(len(plan.actions))]
    executable = [action for action in plan.actions if action.executable]
    assert [(action.kind, action.risk) for action in executable] == [
        ("set_config", "R1"),
        ("expire_prefix", "R3"),
    ]
    relief = [action.relief for action in plan.actions]
    assert relief == sorted(relief), "immediate relief comes first"
    raised, expired = executable
    assert raised.arguments["parameter"] == "maxmemory"
    assert int(raised.arguments["value"]) > used / 0.76
    assert expired.arguments["prefix"] == "session:"
    assert 7_150 < expired.arguments["ttl_seconds"] <= 7_200, "as its similar keys have"
    assert "keys" in expired.predicted_effect
    assert expired.evidence, "rests on evidence"
    identity = await identify(reading)
    for action in plan.actions:
        expected = fingerprint(action.kind, action.arguments, identity, action.evidence)
        assert action.fingerprint == expected
        assert action.status == "proposed"
        assert action.expires_at is not None
        assert timedelta(hours=23) < action.expires_at - NOW < timedelta(hours=25)
    kinds = {action.kind for action in plan.actions if not action.executable}
    assert kinds == {"instance_resize", "advise_application"}
    topics = {a.arguments["topic"] for a in plan.actions if a.kind == "advise_application"}
    assert {"data-structures", "data-cleanup"} <= topics, "the seed's own options"
    assert plan.prevention
    assert plan.checklist
    await carry_out(case, plan, executable[0].id)
    await carry_out(case, plan, executable[1].id)
    assert client.info("keyspace")["db0"]["expires"] == 5_050
    await reading.close()


async def test_what_grows_meanwhile_is_proposed_once(start_server: Callable[..., Server]) -> None:
    """Two runbooks ask for the same; each look finds more keys than the one before."""
    server, ended = start_server("valkey-9.1"), threading.Event()

    def leak() -> None:
        with redis.Redis(port=server.port) as own:
            while not ended.is_set():
                own.set(f"session:{time.time_ns()}", b"x" * 100)

    leaking = threading.Thread(target=leak)
    leaking.start()
    try:
        found = diagnosis("missing-ttl-prefix-leak", "prefix", "session:")
        plan = await plan_for(server, found, *LOOKS)
    finally:
        ended.set()
        leaking.join()
    assert [action.kind for action in plan.actions].count("expire_prefix") == 1


async def carry_out(case: Case, plan: Plan, action_id: str) -> None:
    action = next(action for action in plan.actions if action.id == action_id)
    ann = Approval(by="ann", role="admin", at=NOW)
    await case.journal.set_plan(plan)
    await case.journal.save_action(
        action.model_copy(update={"status": "approved", "approvals": [ann]})
    )
    applied = await executor.apply(case.context, action)
    assert applied.status == "applied", applied.comment
    verified = await verification.verify(case.context, applied, hold_seconds=0)
    assert verified.status == "verified", verified.comment


async def test_piled_up_scripts_are_flushed_in_the_background_and_only_if_many(
    server: Server, client: "redis.Redis"
) -> None:
    plan = await plan_for(server, diagnosis("lua-script-cache"))
    assert [action.kind for action in plan.actions if action.executable] == []
    for number in range(600):
        client.script_load(f"return {number}")
    plan = await plan_for(server, diagnosis("lua-script-cache"))
    (flush,) = [action for action in plan.actions if action.executable]
    assert (flush.kind, flush.risk) == ("script_flush", "R2")
    assert flush.commands == [["SCRIPT", "FLUSH", "ASYNC"]]
    assert "600 scripts" in flush.title


async def test_idle_connections_of_the_leak_go_when_slots_are_scarce(
    start_server: Callable[..., Server],
) -> None:
    """On all builds in one test: only once does it take as long as they have to be idle."""
    builds = [build for build in servers.BUILDS if servers.binary(build) is not None]
    made = [start_server(build, "--maxclients", "16") for build in builds]
    ports = [server.port for server in made for _ in range(12)]
    pool = [redis.Redis(port=port, protocol=2, client_name="orders") for port in ports]
    for one in pool:
        one.ping()
    time.sleep(SHORTEST_IDLE + 1)
    found = diagnosis("maxclients-leak", "client", "orders")
    plans = await asyncio.gather(*(plan_for(server, found, "clients") for server in made))
    for one in pool:
        one.close()
    assert len(plans) >= 3
    for plan in plans:
        kill = next(action for action in plan.actions if action.executable)
        assert (kill.kind, kill.risk) == ("kill_idle_clients", "R2")
        assert kill.arguments["name"] == "orders"
        assert len(kill.arguments["ids"]) == 12
        timeout = [action.arguments for action in plan.actions if action.kind == "set_config"]
        assert [(one["parameter"], one["value"]) for one in timeout] == [("timeout", "600")]


async def test_an_unread_subscriber_is_disconnected_and_neither_data_nor_memory_is_touched(
    server: Server, client: "redis.Redis"
) -> None:
    fill_sessions(server)
    client.config_set("client-output-buffer-limit", "pubsub 0 0 0")
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 20 * MIB)
    with stuck_subscriber(client, "dashboard"):
        found = diagnosis("slow-pubsub-cob", "client", "dashboard", "noeviction-oom")
        plan = await plan_for(server, found, *LOOKS)
    kinds = [(a.kind, a.arguments.get("parameter", "")) for a in plan.actions if a.executable]
    assert kinds == [("set_config", "client-output-buffer-limit"), ("kill_client", "")]
    kill = next(action for action in plan.actions if action.kind == "kill_client")
    assert (kill.arguments["name"], kill.arguments["type"]) == ("dashboard", "pubsub")
    assert kill.arguments["min_buffer_bytes"] > MIB
    assert all(check.holds for check in kill.preconditions)
    said = json.dumps([action.model_dump(mode="json") for action in plan.actions])
    for harm in ("instance_resize", "expire_prefix", "CONFIG SET maxmemory", '"maxmemory"'):
        assert harm not in said


@pytest.mark.parametrize(
    ("cause", "is_incident"),
    [
        ("cache-full-by-design", False),
        ("wrong-threshold-false-alarm", False),
        ("transient-fork-spike", False),
        ("unknown", True),
    ],
)
async def test_nothing_is_proposed_for_what_is_no_incident_or_not_understood(
    start_server: Any, cause: str, is_incident: bool
) -> None:
    server = start_server("valkey-9.1")
    found = diagnosis(cause, "none", "", "noeviction-oom").model_copy(
        update={"is_incident": is_incident}
    )
    plan = await plan_for(server, found, *LOOKS)
    assert [action for action in plan.actions if action.executable] == []


async def test_defragmentation_is_offered_only_where_the_allocator_can(
    server: Server, client: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.plain_arguments.LEAST_FRAGMENTED", MIB)
    pour(server.port, (("SET", str(number), "x" * 150) for number in range(40_000)))
    client.unlink(*(str(number) for number in range(40_000) if number % 5))
    plan = await plan_for(server, diagnosis("fragmentation-after-deletes"), "memory_info")
    jemalloc = client.info("memory")["mem_allocator"].startswith("jemalloc")
    offered = [a for a in plan.actions if a.kind == "defragment"]
    assert bool(offered) is jemalloc


async def test_a_change_is_kept_over_a_restart_as_a_step_of_its_own_and_only_where_a_file_is(
    tmp_path: Path,
) -> None:
    file = tmp_path / "server.conf"
    file.write_text("timeout 0\n")
    path = servers.binary("valkey-9.1")
    assert path is not None
    found = diagnosis("maxclients-leak", "client", "pool-7")
    for configuration in (file, None):
        server = servers.start("valkey-9.1", path, configuration=configuration)
        try:
            plan = await plan_for(server, found, "memory_info")
        finally:
            servers.stop(server)
        changed = [a.kind for a in plan.actions if a.arguments.get("parameter") == "timeout"]
        assert changed == ["set_config", "rewrite_config"][: 2 if configuration else 1]


async def test_a_plan_notes_what_it_was_made_for(server: Server, client: "redis.Redis") -> None:
    """What changes between proposal and approval lapses it: the old value, the policy."""
    fill_sessions(server)
    client.config_set("maxmemory-policy", "volatile-lru")
    client.config_set("maxmemory", client.info("memory")["used_memory"] + MIB // 2)
    found = diagnosis("missing-ttl-prefix-leak", "prefix", "session:", "volatile-policy-no-ttl")
    plan = await plan_for(server, found, *LOOKS)
    raised, expired = [action for action in plan.actions if action.executable]
    assert raised.arguments["expected"] == client.config_get("maxmemory")["maxmemory"]
    assert expired.arguments["evictable"] is True
    assert "volatile-lru may evict them at once" in expired.predicted_effect


async def test_a_backlog_is_not_made_tiny_in_a_quiet_moment(
    server: Server, client: "redis.Redis"
) -> None:
    client.config_set("maxmemory", "100mb")
    client.config_set("repl-backlog-size", "60mb")
    plan = await plan_for(server, diagnosis("oversized-backlog"), "stats")
    (backlog,) = [action for action in plan.actions if action.executable]
    assert backlog.arguments["parameter"] == "repl-backlog-size"
    assert int(backlog.arguments["value"]) == 10 * MIB


async def test_a_limit_is_not_raised_beyond_the_machine(
    server: Server, client: "redis.Redis"
) -> None:
    client.config_set("maxmemory", "60mb")
    plan = await plan_for(server, diagnosis("organic-growth"), memory_limit=64 * MIB)
    assert not [a for a in plan.actions if a.arguments.get("parameter") == "maxmemory"]


async def test_an_unreachable_server_still_gets_advice() -> None:
    dead = await open_for_reading("redis://127.0.0.1:1")
    case = Case("redis://127.0.0.1:1", dead)
    found = diagnosis("missing-ttl-prefix-leak", "prefix", "session:", "noeviction-oom")
    plan = await case.plan(found)
    assert plan.actions
    assert not any(action.executable for action in plan.actions)


async def test_names_that_are_not_what_they_seem_are_never_expired(
    start_server: Any,
) -> None:
    server = start_server("valkey-9.1")
    with closing(redis.Redis(port=server.port)) as client:
        client.set(b"\x1b[2J:1", "x")
    for name in ("\\x1b[2J:", "(no prefix)", "long…(300 characters)"):
        plan = await plan_for(server, diagnosis("missing-ttl-prefix-leak", "prefix", name))
        assert "expire_prefix" not in {action.kind for action in plan.actions}, name


async def test_production_asks_for_two_people_where_data_is_at_stake(
    start_server: Any,
) -> None:
    server = start_server("valkey-9.1")
    fill_sessions(server)
    found = diagnosis("missing-ttl-prefix-leak", "prefix", "session:")
    for environment, people in (("production", 2), ("staging", 1)):
        plan = await plan_for(server, found, environment=environment)
        expire = next(action for action in plan.actions if action.kind == "expire_prefix")
        assert expire.approvals_required == people
        assert expire.arguments["ttl_seconds"] == 86_400, "no similar keys were seen"


def test_every_harmful_entry_names_a_catalogued_cause() -> None:
    assert set(HARMFUL) - CATALOGUED == set()


@pytest.mark.parametrize("cause", sorted(LIBRARY.causes()))
def test_no_runbook_asks_for_what_harms_its_cause(cause: str) -> None:
    for remedy in LIBRARY.causes()[cause].remedies:
        kind = remedy if isinstance(remedy, str) else remedy.kind
        given = {} if isinstance(remedy, str) else dict(remedy.args)
        assert kind in REMEDIES
        if kind == "set_config":
            given.setdefault("value", "yes")
        assert not is_harmful(cause, kind, given), (cause, kind, given)
