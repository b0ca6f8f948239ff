"""What is over for long enough goes, with all its parts; what is not stays, whatever its age."""

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from sqlalchemy import func, select, update

from agent.incident import Plan
from api.retention import Retention
from api.settings import Settings
from api.store import alerts, incidents, leases, pages, retention, space
from api.store.database import Database
from api.store.journal import SqlJournal
from api.store.migrate import open_checkpoints
from api.store.notice_table import NoticeRow
from api.store.place import Place
from api.store.tables import (
    AuditRow,
    DeliveryRow,
    ExchangeRow,
    IncidentRow,
    IntentRow,
    MessageRow,
    PageRow,
    RecordingRow,
    Table,
    VerdictRow,
)
from api.store.target_tables import CrossingRow, FreezeRow, SilenceRow
from tests.api.test_durable_settings import sqlite_of
from tests.api.test_store import action, alert

NOW = datetime(2028, 6, 1, 3, tzinfo=UTC)
OLD, FRESH = NOW - timedelta(days=401), NOW - timedelta(days=399)
Forget = Callable[..., Any]


@pytest.fixture
def forget(database: Database, settings: Callable[..., Settings]) -> Forget:
    async def run(**kept: str) -> dict[str, int]:
        configured = settings(retention=kept)
        async with open_checkpoints(database) as saver:
            return await Retention(configured, database, saver, "me", lambda: NOW).round()

    return run


async def whole(database: Database, target: str, updated: datetime = OLD, **row: Any) -> str:
    """A closed incident with a row of every kind; its id."""
    async with database.writing() as session:
        opened, _ = await alerts.firing(database, session, alert(target), Place(target))
        assert opened is not None
        incident_id = opened.id
    lease = await leases.acquire(database, target, incident_id, "me")
    assert lease is not None
    journal = SqlJournal(database, incident_id, 1, lease)
    await journal.add_evidence("memory_info", {}, {}, measured=True, node="n", summary="s")
    await journal.set_plan(Plan(actions=[action()]))
    async with database.writing() as session:
        kept = await incidents.lock(session, incident_id)
        await pages.call(session, f"come to {target}", incidents.now(), kept)
        about: dict[str, Any] = {"incident_id": incident_id, "attempt": 1}
        session.add_all([
            IntentRow(**about, action_id="A1", intent={}, noted_at=OLD, settled_at=OLD, outcome={}),
            RecordingRow(**about, flavour="redis", data=b"x", taken_at=OLD),
            exchange(**about),
            message(incident_id=incident_id),
            notice(incident_id=incident_id),
        ])  # fmt: skip
        await session.flush()
        await session.execute(update(PageRow).values(sent_at=OLD))
        await incidents.move(session, kept, "closed", "over")
    await changed(database, incident_id, updated_at=updated, **row)
    return incident_id


def exchange(**about: Any) -> ExchangeRow:
    numbers = dict.fromkeys(("input_tokens", "output_tokens", "cached_tokens", "last_evidence"), 0)
    values: dict[str, Any] = {
        "attempt": 0, "purpose": "chat", "model": "m", "day": date(2026, 1, 1), "at": OLD,
        "seconds": 0.1,
    }  # fmt: skip
    return ExchangeRow(**values | numbers | about)


def notice(**about: Any) -> NoticeRow:
    values = {"address": "a", "kind": "opened", "facts": {}, "rank": 2, "at": OLD, "due_at": OLD,
              "sent_at": OLD, "tries": 1, "failure": "", "conversation": ""}  # fmt: skip
    return NoticeRow(**values | about)


def message(**about: Any) -> MessageRow:
    values = {"thread_id": "t1", "by": "alice", "question": "?", "answer": "!", "claims": [],
              "reasoner": "rules", "at": FRESH}  # fmt: skip
    return MessageRow(**values | about)


async def changed(database: Database, incident_id: str, **values: Any) -> None:
    async with database.writing() as session:
        row = update(IncidentRow).where(IncidentRow.id == incident_id)
        await session.execute(row.values(**values))


async def counted(database: Database) -> dict[str, int]:
    async with database.reading() as session:
        found = {
            name: await session.scalar(select(func.count()).select_from(table)) or 0
            for name, table in Table.metadata.tables.items()
        }
    ours = set(found) - {"leases", "audit", "audit_head", "audit_anchor"}
    return {name: found[name] for name in sorted(ours) if found[name]}


async def there(database: Database) -> set[str]:
    async with database.reading() as session:
        return set(await session.scalars(select(IncidentRow.id)))


async def test_an_old_incident_goes_with_all_its_parts_and_leaves_a_word_in_the_trail(
    database: Database, forget: Forget
) -> None:
    await whole(database, "a")
    stays = await whole(database, "b", FRESH)
    before = await counted(database)
    every = {table.name for table in retention.parts()} | {"incidents", "messages"}
    assert every - {"decisions", "verdicts"} <= set(before)
    told = await forget()
    assert await there(database) == {stays}
    after = await counted(database)
    one = {
        "actions",
        "alerts",
        "evidence",
        "exchanges",
        "intents",
        "messages",
        "pages",
        "recordings",
    }
    assert {name: after[name] for name in one} == dict.fromkeys(one, 1)
    assert told == {name: before[name] - after.get(name, 0) for name in told}
    async with database.reading() as session:
        detail = await session.scalar(select(AuditRow.detail).where(AuditRow.what == "forgotten"))
    assert detail is not None
    assert detail["rows"] == told
    assert await forget() == {}


@pytest.mark.parametrize(
    "spoilt",
    [
        {"status": "needs_human"}, {"status": "queued"}, {"status": "awaiting_approval"},
        {"status": "remediating"}, {"updated_at": FRESH},
    ],
)  # fmt: skip
async def test_what_is_not_over_is_kept_whatever_its_age(
    database: Database, forget: Forget, spoilt: dict[str, Any]
) -> None:
    known = await whole(database, "a")
    await changed(database, known, **spoilt)
    await forget()
    assert known in await there(database)


async def test_what_nobody_settled_or_was_told_of_is_kept_until_then(
    database: Database, forget: Forget
) -> None:
    """An intent without an outcome, a page nobody got, an action at work: people may come yet."""
    known = await whole(database, "a")
    spoilt = (
        (update(IntentRow).values(settled_at=None), update(IntentRow).values(settled_at=OLD)),
        (update(PageRow).values(sent_at=None), update(PageRow).values(sent_at=OLD)),
    )
    for spoils, mends in spoilt:
        async with database.writing() as session:
            await session.execute(spoils)
        await forget()
        assert known in await there(database), str(spoils)
        async with database.writing() as session:
            await session.execute(mends)
    await forget()
    assert known not in await there(database)


async def test_what_a_person_judged_is_kept_for_ever_or_as_long_as_it_says(
    database: Database, forget: Forget
) -> None:
    """Verdicts label recordings: what the rules are measured by is not thrown away by age."""
    known = await whole(database, "a", NOW - timedelta(days=500))
    async with database.writing() as session:
        session.add(VerdictRow(incident_id=known, by="alice", root_cause="x", comment="", at=OLD))
    await forget()
    await forget(judged="600d")
    assert known in await there(database)
    assert (await counted(database))["recordings"] == 1
    await forget(judged="450d")
    assert known not in await there(database)


async def test_what_belongs_to_no_incident_goes_by_its_own_age(
    database: Database, settings: Callable[..., Settings], forget: Forget
) -> None:
    for at, target in ((OLD, "no-longer-there"), (NOW, "cache-eu")):
        async with database.writing() as session:
            blocks = {"reason": "r", "by": "alice", "at": OLD, "until": at}
            session.add_all([
                message(at=at), exchange(at=at, thread_id="t1"),
                PageRow(
                    reason="r", at=at, sent_at=at, due_at=at, tries=1, delivered=[], failure=""
                ),
                notice(at=at),
                FreezeRow(**blocks, thawed_by=""),
                SilenceRow(**blocks, labels={}, lifted_by=""),
                DeliveryRow(source="s", id=target, at=at),
                CrossingRow(target=target, threshold="memory", since=OLD),
            ])  # fmt: skip
    told = await forget()
    kinds = (
        "messages", "exchanges", "pages", "notices", "freezes", "silences", "deliveries",
        "crossings",
    )  # fmt: skip
    assert told == dict.fromkeys(kinds, 1)
    assert await counted(database) == dict.fromkeys(sorted(kinds), 1)


async def test_a_thousand_go_in_batches_with_room_for_others_between_them(
    database: Database, forget: Forget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "INCIDENTS_AT_ONCE", 7)
    async with database.writing() as session:
        for number in range(60):
            row = await incidents.open_incident(session, title="t", target=f"t{number}")
            await incidents.move(session, row, "closed", "over")
            row.updated_at = OLD
    sizes = []
    once = retention.forget_incidents

    async def noted(*arguments: Any) -> dict[str, int]:
        gone = await once(*arguments)
        sizes.append(gone.get("incidents", 0))
        return gone

    monkeypatch.setattr(retention, "forget_incidents", noted)
    assert (await forget())["incidents"] == 60
    assert sizes == [7] * 8 + [4, 0]


async def test_one_process_at_a_time_and_the_database_may_be_away(
    database: Database, settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.retention.EVERY_SECONDS", 0.5)
    rounds: list[str] = []

    async def counted_round(self: Retention) -> dict[str, int]:
        rounds.append(self.holder)
        if len(rounds) == 1:
            raise ConnectionError
        return {}

    monkeypatch.setattr(Retention, "round", counted_round)
    running = [
        asyncio.create_task(Retention(settings(), database, None, f"w{number}").forever())
        for number in range(3)
    ]
    async with asyncio.timeout(20):
        while len(rounds) < 3:
            await asyncio.sleep(0.02)
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(20):
        while len(rounds) < 5:
            await asyncio.sleep(0.02)
    assert asyncio.get_running_loop().time() - began > 0.4, "once an interval, not once a process"
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_checkpoints_go_long_before_the_incident(database: Database, forget: Forget) -> None:
    """Of what ended an hour ago, of attempts that another followed, of incidents that are gone."""
    async with database.writing() as session:
        rows = [
            await incidents.open_incident(session, title="t", target=name)
            for name in ("over", "just over", "open", "again")
        ]
        for row, at in ((rows[0], NOW - timedelta(hours=2)), (rows[1], NOW)):
            await incidents.move(session, row, "needs_human", "over")
            row.updated_at = at
        await incidents.begin_attempt(session, rows[3], "again")
        over, just, still, again = (row.id for row in rows)
    named = [f"{over}/1/1", f"{just}/1/1", f"{still}/1/1", f"{again}/1/1", f"{again}/2/1",
             "inc-gone/1/1"]  # fmt: skip
    async with open_checkpoints(database) as saver:
        for thread in named:
            config: Any = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
            await saver.aput(config, empty_checkpoint(), {}, {})
    assert await forget() == {"checkpoints": 3}
    async with open_checkpoints(database) as saver:
        left = {point.config["configurable"]["thread_id"] async for point in saver.alist(None)}
    assert left == {f"{just}/1/1", f"{still}/1/1", f"{again}/2/1"}


async def test_sqlites_file_shrinks(
    settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "FREE_PAGES_KEPT", 10)
    database = await sqlite_of(tmp_path)
    async with database.writing() as session:
        session.add_all([message(answer="x" * 20_000, at=OLD) for _ in range(400)])
    await asyncio.to_thread(space.give_back, database)
    before = (tmp_path / "oncall.db").stat().st_size
    async with database.writing() as session:
        gone = await retention.forget_aged(session, FRESH, NOW, [])
    assert gone["messages"] == 400
    assert await asyncio.to_thread(space.give_back, database) > 1_000
    await database.close()  # the last connection moves the WAL into the file
    assert (tmp_path / "oncall.db").stat().st_size < before / 4


def test_every_table_is_either_part_of_an_incident_or_has_an_age() -> None:
    """Whoever adds a table says here when its rows go."""
    aged = {
        "messages",
        "freezes",
        "silences",
        "deliveries",
        "crossings",
        "samples",
        "baselines",
        "processes",
    }
    never = {"leases", "audit", "audit_head", "audit_anchor"}
    parts = {table.name for table in retention.parts()}
    assert parts | aged | never | {"incidents"} == set(Table.metadata.tables)
