"""What a target looks like in healthy times is kept, and what changed since is told, with when."""

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import redis
from sqlalchemy import delete, func, select, update

from agent.context import Target
from agent.runbook_library import load_library
from api import baselines as looks
from api.past import Past
from api.settings import Settings
from api.store import baselines, incidents
from api.store.baselines import NEWEST, thinned
from api.store.database import Database, database_url
from api.store.retention import forget_aged
from api.store.tables import AlertRow, IncidentRow, LeaseRow
from api.store.target_tables import BaselineRow
from api.watch import Watch
from evals import servers
from evals.pouring import pour
from evals.run import diagnose
from evals.servers import Server
from tests.api.paging_room import Room
from tests.api.paging_room import alert as alert_of
from tests.api.process import Oncall
from tests.api.test_prometheus_incident import exported
from tests.api.test_watch import target
from tests.deployments import cluster, say
from tests.tools.looking import opened
from tools.differences import ServerChanges
from tools.reads import READS
from tools.recording_file import read, write
from tools.recording_names import hashed
from tools.recording_privacy import Pseudonyms

NOW = datetime(2026, 11, 30, 3, tzinfo=UTC)


async def kept(database: Database, name: str = "cache-1") -> dict[str, int]:
    async with database.reading() as session:
        found = await session.execute(
            select(BaselineRow.kind, func.count())
            .where(BaselineRow.target == name)
            .group_by(BaselineRow.kind)
        )
        return {kind: n for kind, n in found}


async def keep(database: Database, server: Server) -> None:
    await looks.keep(database, Target("cache-1", server.url), "worker-0", 60)


async def lived(database: Database, name: str, hours: int) -> None:
    """As if the target had been as it was seen for so many hours, until an hour ago."""
    async with database.reading() as session:
        seen = await baselines.of(session, name)
    async with database.writing() as session:
        await session.execute(delete(BaselineRow))
        for ago in range(hours, 0, -1):
            then = {"at": incidents.now() - timedelta(hours=ago)}
            (server,), (keys,) = seen.servers, seen.keyspaces
            await baselines.keep(session, name, server.model_copy(update=then))
            await baselines.keep(session, name, keys.model_copy(update=then))


async def test_a_healthy_target_is_looked_at_at_its_intervals(
    database: Database, settings: Callable[..., Settings], start_server: Callable[..., Server]
) -> None:
    server = start_server("valkey-9.1")
    told = settings(targets=[target(server)])
    watches = [Watch(told, database, f"worker-{n}") for n in range(3)]
    await asyncio.gather(*(watch.keep_baselines() for watch in watches))
    assert await kept(database) == {"server": 1, "keyspace": 1}
    await keep(database, server)
    assert await kept(database) == {"server": 1, "keyspace": 1}, "it is not time yet"
    off = settings(targets=[target(server, "off")], watch={"baselines": False})
    await Watch(off, database, "worker-0").keep_baselines()
    assert await kept(database, "off") == {}


@pytest.mark.parametrize(
    ("alert", "incident", "expected"),
    [
        ("firing", "investigating", False),
        ("firing", "needs_human", False),
        ("firing", "resolved", True),  # a false alarm that goes on
        ("resolved", "awaiting_approval", False),
        ("resolved", "needs_human", True),
        ("resolved", "closed", True),
    ],
)
async def test_only_times_in_which_nothing_is_known_to_be_wrong_count(
    room: Room, alert: str, incident: str, expected: bool
) -> None:
    name = "orders-1"
    await room.one(alert_of("f1", name))
    long_ago = incidents.now() - timedelta(hours=2)
    async with room.database.writing() as session:
        await session.execute(update(AlertRow).values(status=alert, starts_at=long_ago))
        await session.execute(update(IncidentRow).values(status=incident, updated_at=long_ago))
    async with room.database.reading() as session:
        assert await baselines.is_quiet(session, name, incidents.now()) is expected
        assert await baselines.is_quiet(session, "another", incidents.now())
        just_then = long_ago + timedelta(minutes=10)
        assert not await baselines.is_quiet(session, name, just_then), "something was just done"


async def test_what_cannot_be_reached_or_hides_a_secret_breaks_nothing(
    database: Database, start_server: Callable[..., Server]
) -> None:
    server = start_server("valkey-9.1")
    token = "ghp_" + "a1B2" * 9
    with redis.Redis(port=server.port, client_name=f"job-{token}") as client:
        client.mset({f"of:{token}:{n}": 1 for n in range(200)})
        client.ping()
        await keep(database, server)
    async with database.reading() as session:
        found = await baselines.of(session, "cache-1")
    assert found.servers[0].clients
    assert found.keyspaces[0].groups
    assert token not in found.model_dump_json()
    servers.stop(server)
    await lived(database, "cache-1", 1)
    before = await kept(database)
    await keep(database, server)
    assert await kept(database) == before
    async with database.writing() as session:
        row = BaselineRow(
            target="cache-1", node="", kind="server", at=NOW, shape={"of": "a later version"}
        )
        await session.merge(row)
    async with database.reading() as session:
        assert len((await baselines.of(session, "cache-1")).servers) == 1


def test_old_looks_are_thinned_and_the_newest_are_not() -> None:
    moments: set[datetime] = set()
    for quarter in range(16 * 96):
        now = NOW + timedelta(minutes=15 * quarter)
        moments = thinned(moments | {now}, now)
    ages = sorted((now - at) / timedelta(hours=1) for at in moments)
    assert ages[:NEWEST] == [n / 4 for n in range(NEWEST)]
    assert len(ages) <= 12 + 24 + 14
    assert max(later - earlier for earlier, later in pairwise(ages)) <= 25
    assert 13 * 24 <= ages[-1] <= 14 * 24


async def test_what_is_old_or_of_nobody_is_forgotten(database: Database) -> None:
    async with database.writing() as session:
        for name, days in (("cache-1", 1), ("cache-1", 15), ("gone", 1)):
            at = NOW - timedelta(days=days)
            session.add(BaselineRow(target=name, node="", kind="server", at=at, shape={}))
    async with database.writing() as session:
        assert (await forget_aged(session, NOW, NOW, ["cache-1"]))["baselines"] == 2
    assert (await kept(database), await kept(database, "gone")) == ({"server": 1}, {})


def sampled(texts: Iterable[str]) -> list[str]:
    """Without shares: a replay draws another sample of the keys."""
    return [re.sub(r"to [0-9.]+ %", "to a share", text) for text in texts]


@pytest.fixture
def server(start_server: Callable[..., Server]) -> Server:
    """Half full of sessions, used by some workers."""
    server = start_server(servers.BUILDS[-1], "--maxmemory", "40mb")
    pour(server.port, (("SET", f"session:{n}", "x" * 1_000, "EX", 90_000) for n in range(9_000)))
    return server


async def test_an_incident_names_what_changed_since_and_so_does_its_replay(
    server: Server, tmp_path: Path
) -> None:
    oncall = Oncall(tmp_path, server.port)
    oncall.start()
    database = Database(database_url(f"sqlite:///{tmp_path}/data/redis-oncall.db"))
    try:
        await looks.keep(database, Target("cache", server.url), "test", 60)
        await lived(database, "cache", 30)
        with contextlib.ExitStack() as stack:
            for n in range(40):
                name = f"importer-{n}"
                one = redis.Redis(port=server.port, client_name=name, single_connection_client=True)
                stack.enter_context(one).ping()
            one.config_set("maxmemory", "22mb")
            pour(server.port, (("SET", f"import:{n}", "x" * 1_000) for n in range(6_000)))
            incident = oncall.reaches(oncall.alert(), "awaiting_approval", "needs_human")
        diagnosis = incident.diagnosis
        assert diagnosis is not None
        told = [claim.text for claim in diagnosis.claims]
        between = r" between \d{4}-\d\d-\d\d \d\d:\d\d UTC and \d{4}-\d\d-\d\d \d\d:\d\d UTC\."
        for sentence in (
            "The parameter maxmemory went from 40.0 MiB to 22.0 MiB",
            'Connections of "importer-\\*" rose from 0 to 40',
            'The share of keys with the prefix "import:" rose from 0.0 % to \\d\\d.\\d %',
        ):
            assert any(re.fullmatch(sentence + between, text) for text in told), (sentence, told)
        report = oncall.client.get(f"/v1/incidents/{incident.id}/report").text
        assert "The parameter maxmemory went from" in report
        asked = {"message": "What changed?", "incident_id": incident.id}
        assert "Since times in which nothing was wrong" in str(oncall.post("/v1/chat", asked))

        case = exported(oncall, incident, tmp_path)
        replayed, _ = await diagnose(case, load_library())
        assert replayed.diagnosis is not None
        assert sampled(claim.text for claim in replayed.diagnosis.claims) == sampled(told)
        other = hashed(read(case.recording), Pseudonyms())
        assert not re.search("importer|session|(?<!slot_)import:", str(other))
        write(case.recording, other)
        replayed, _ = await diagnose(case, load_library())
        assert replayed.diagnosis is not None
        assert len(replayed.diagnosis.claims) == len(told)
    finally:
        await database.close()
        oncall.stop()


async def test_of_a_cluster_every_primary_has_its_own(
    database: Database, settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.changes.SECONDS", 0.5)  # no rates are looked at
    with cluster(servers.BUILDS[-1], replicas=False) as nodes:
        told = settings(targets=[{"name": "many", "url": nodes.url}])
        (many,) = told.agent_targets()
        for _ in nodes.primaries:  # a walk over one of them each time
            await looks.keep(database, many, "worker-0", 60)
            async with database.writing() as session:
                await session.execute(update(LeaseRow).values(expires=0))
        addresses = {f"127.0.0.1:{node.port}" for node in nodes.primaries}
        async with database.reading() as session:
            found = await baselines.newest(session, "many")
        assert set(found) == {(one, kind) for one in addresses for kind in ("server", "keyspace")}
        first = nodes.primaries[0]
        say(first.port, "CONFIG", "SET", "maxmemory", "77mb")
        past = Past(told, database, "many")
        for node in nodes.primaries:
            address = f"127.0.0.1:{node.port}"
            known = await past.known("server_changes", f"{address} (master)")
            async with opened(node.url) as connection:
                seen = await READS["server_changes"].call(connection, known)
            assert isinstance(seen, ServerChanges), seen
            assert set(seen.parameters) == ({"maxmemory"} if node is first else set())
        silent = await past.known("server_changes", "127.0.0.1:1 (master)")
        assert silent["baselines"].because == "no look at a healthy time is kept of this node yet"
