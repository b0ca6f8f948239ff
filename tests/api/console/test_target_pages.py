"""Targets as pages: worst first, silence is not health, no more is asked for many than for few."""

import re
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from agent.context import Target
from agent.incident import ChecklistItem
from api import outlooks
from api.app import create_app
from api.console.target_view import saved, standing
from api.outlooks import outlook_of
from api.settings import Settings
from api.store import glances, incidents
from api.store.database import Database
from api.store.runbook_uses import uses
from api.store.tables import EvidenceRow, IncidentRow
from api.store.target_tables import SampleRow
from api.store.trail_pages import Wanted
from api.store.trail_pages import page as trail_page
from tests.api.console.visiting import HOSTILE, asked, look, seal_of, sign_in
from tests.api.serving import serving
from tests.api.test_incidents_api import service_of
from tests.api.trails import KEYS
from tools.growth import History, MemorySample

NOW = datetime.now(UTC)
MIB = 2**20
NAMES = [f"cache-{number:03}" for number in range(120)]
TARGETS: list[dict[str, Any]] = [
    {"name": name, "url": f"redis://u:p4ssw0rd@127.0.0.1:1/{number}", "match": {"instance": name}}
    for number, name in enumerate(NAMES)
]
SAVED = {
    "seconds_since_last_save": 7_200, "rdb_saves": 3, "rdb_last_bgsave_status": "err",
    "aof_enabled": 0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def begins_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite may take ten minutes from reading this file to its last test."""
    monkeypatch.setattr(sys.modules[__name__], "NOW", datetime.now(UTC))


@pytest.fixture
async def client(settings: Callable[..., Settings]) -> AsyncIterator[httpx2.AsyncClient]:
    app = create_app(settings(targets=TARGETS), worker=False)
    async with serving(app) as client:
        object.__setattr__(service_of(client), "began", NOW - timedelta(days=9))
        await sign_in(client, "responder")
        yield client


def sample(name: str, ago: float, used: float = 500.0) -> SampleRow:
    """`ago` in minutes, `used` in MiB of 1,000."""
    at = NOW - timedelta(minutes=ago)
    return SampleRow(
        target=name, at=at, used_bytes=int(used * MIB), limit_bytes=1_000 * MIB, keys=7
    )


async def keep(database: Database, *rows: Any) -> None:
    async with database.writing() as session:
        session.add_all(rows)


async def burns(database: Database, name: str, severity: Any = "critical") -> str:
    async with database.writing() as session:
        row = await incidents.open_incident(session, title=HOSTILE, target=name, severity=severity)
        return row.id


def evidence(incident_id: str, number: int, tool: str, reading: dict[str, Any]) -> EvidenceRow:
    return EvidenceRow(
        incident_id=incident_id, number=number, attempt=1, tool=tool, args={}, reading=reading,
        measured=True, target="", node="127.0.0.1:1", summary=tool, taken_at=NOW,
    )  # fmt: skip


def order(html: str) -> list[str]:
    return re.findall(r'id="target-([^"]+)"', html)


async def test_what_burns_is_first_then_what_is_silent_then_what_is_nearly_full(
    client: httpx2.AsyncClient,
) -> None:
    database = service_of(client).database
    await keep(database, *(sample(name, 1) for name in NAMES[8:]))
    await keep(database, *(sample(NAMES[n], 1, 900.0 + n) for n in (3, 4)))
    await keep(database, sample(NAMES[5], 30), sample(NAMES[6], 1), sample(NAMES[6], 50, 999.0))
    await keep(database, sample(NAMES[0], 1), sample(NAMES[7], 1), sample(NAMES[2], 1, 800.0))
    burning = await burns(database, NAMES[7])
    await burns(database, NAMES[0], "warning")
    html = await look(client, "/targets")
    silent = [NAMES[5], NAMES[1]]
    first = [NAMES[7], *silent, NAMES[0], NAMES[4], NAMES[3], NAMES[2], NAMES[6], NAMES[8]]
    assert order(html)[:9] == first
    assert "2 with open incidents" in html
    assert "2 not heard of" in html
    assert f'href="/incidents/{burning}"' in html
    assert html.count("Nothing was ever heard of it") == 1
    assert html.count("Nothing was heard since") == 1
    assert "p4ssw0rd" not in html
    assert "<strong>904.0 MiB</strong> of 1,000.0 MiB, <strong>90.4 %</strong>" in html


async def test_a_page_of_many_targets_asks_no_more_than_one_of_few(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlooks, "MOST_AT_ONCE", 0)
    database = service_of(client).database
    await keep(database, *(sample(name, ago) for name in NAMES for ago in (1, 20, 40)))
    for name in NAMES[:60:20]:
        await burns(database, name)
    await look(client, "/targets")
    counts = []
    for words in (NAMES[0], ""):
        with asked(database) as statements:
            html = await look(client, f"/targets?words={words}")
        counts.append(len(statements))
    assert counts[1] <= counts[0] <= 10, statements
    assert len(order(html)) == 50
    assert "Page 1 of 3" in html
    second, third = [await look(client, f"/targets?page={number}") for number in (2, 3)]
    assert sorted(order(html) + order(second) + order(third)) == NAMES
    assert order(await look(client, "/targets?page=99")) == order(third)
    assert order(await look(client, "/targets?words=CACHE-01+production")) == NAMES[10:20]
    assert len(html) < 200_000


async def test_when_it_will_be_full_is_worked_out_after_the_page(
    client: httpx2.AsyncClient,
) -> None:
    days = [sample(NAMES[0], day * 1_440 + hour * 60, 900.0 - 20 * day)
            for day in range(9) for hour in range(1, 24, 2)]  # fmt: skip
    await keep(service_of(client).database, *days)
    path = f"/targets?words={NAMES[0]}"
    assert "being worked out" in await look(client, path)
    html = await look(client, path)
    assert re.search(r"about <strong>[45] d", html), html
    assert "not before" in html
    assert "20.0 MiB a day" in await look(client, f"/targets/{NAMES[0]}")
    larger = sample(NAMES[0], 0, 900.0)
    larger.limit_bytes = 2_000 * MIB
    await keep(service_of(client).database, larger)
    assert "about <strong>5" in await look(client, f"/targets/{NAMES[0]}"), "with another limit"


def growing(per_day: float, days: int = 10, levels: Sequence[int] = (0,)) -> History:
    """In MiB, with a breath of 20 MiB a day; `levels` go over it, a day each, the newest first."""
    return History(
        source="watch",
        samples=[
            MemorySample(
                at=NOW - timedelta(hours=hour),
                used_bytes=int(
                    (
                        500
                        - per_day * hour / 24
                        + 20 * (hour % 24 > 12)
                        + levels[hour // 24 % len(levels)]
                    )
                    * MIB
                ),
            )
            for hour in range(days * 24, -1, -1)
        ],
    )


def test_a_growth_that_may_be_none_fills_nothing() -> None:
    grows, limit = outlook_of(growing(10.0), 1_000 * MIB, NOW), 1_000.0 * MIB
    assert grows.about is not None
    assert 45 < grows.about / 86_400 < 52
    assert grows.soonest is not None
    assert grows.soonest <= grows.about
    flat = outlook_of(growing(0.0), limit, NOW)
    assert (flat.about, flat.soonest, "does not grow" in flat.because) == (None, None, True)
    shaken = outlook_of(growing(0.0, levels=(10, 40, 60, 0, 90, 20, 70, -10, 50, 0)), limit, NOW)
    assert shaken.per_day is not None
    assert shaken.per_day > 0
    assert (shaken.about, shaken.soonest is None) == (None, False)
    short = outlook_of(growing(10.0, days=2), limit, NOW)
    assert (short.about, short.per_day, "needed" in short.because) == (None, None, True)
    unlimited = outlook_of(growing(10.0), None, NOW)
    assert (unlimited.about, "no limit" in unlimited.because) == (None, True)


MINUTE = timedelta(minutes=1)
NODE, CLUSTER = (
    Target(name="t", url=f"redis{kind}://127.0.0.1:1") for kind in ("", "-cluster")
)  # fmt: skip


@pytest.mark.parametrize(
    ("target", "heard", "every", "up", "word"),
    [
        (NODE, 2, MINUTE, 60, "heard"), (NODE, 4, MINUTE, 60, "silent"),
        (NODE, None, MINUTE, 60, "never heard"), (NODE, 90, MINUTE, 2, "not yet heard"),
        (NODE, None, MINUTE, 2, "not yet heard"), (NODE, 4, 2 * MINUTE, 60, "heard"),
        (NODE, 2, None, 60, "not looked at"), (CLUSTER, None, MINUTE, 60, "not sampled"),
    ],
)  # fmt: skip
def test_silence_is_not_health(
    target: Target, heard: int | None, every: timedelta | None, up: int, word: str
) -> None:
    last = None if heard is None else NOW - heard * MINUTE
    found = standing(target, last, every, NOW, NOW - up * MINUTE)
    assert found.word == word
    assert (found.tone == "good") == (word == "heard")
    assert bool(found.because) == (word != "heard")


def test_what_the_last_save_was() -> None:
    failed = saved(evidence("inc-1", 3, "persistence", SAVED))
    assert failed is not None
    assert (failed.at, failed.status, failed.append_only) == (NOW - 2 * 60 * MINUTE, "err", False)
    never = saved(evidence("inc-1", 3, "persistence", SAVED | {"rdb_saves": 0}))
    assert never is not None
    assert (never.at, never.because) == (None, "none since the server started")
    refused = {"seconds_since_last_save": {"not_measured": "TIME", "because": "NOPERM"}}
    unknown = saved(evidence("inc-1", 3, "persistence", refused))
    assert unknown is not None
    assert (unknown.at, unknown.because, unknown.append_only) == (None, "NOPERM", None)


async def seen_through(client: httpx2.AsyncClient, name: str) -> str:
    """An incident that looked at everything."""
    database = service_of(client).database
    incident_id = await burns(database, name)
    info = {"used_memory": 100 * MIB, "counted_memory": 100 * MIB, "limit": 200 * MIB}
    keys = [{"prefix": f"{HOSTILE}:", "keys": 5, "bytes": 50 * MIB, "types": {"string": 5}}]
    item = ChecklistItem(
        runbook="x", text=HOSTILE, result="fail", because=HOSTILE, evidence=["E1"]
    )  # fmt: skip
    async with database.writing() as session:
        row = await session.get_one(IncidentRow, incident_id)
        row.checklist, row.last_evidence = [item.model_dump(mode="json")], 3
        session.add(evidence(incident_id, 1, "memory_info", info))
        session.add(evidence(incident_id, 2, "bigkeys", {"prefixes": keys}))
        session.add(evidence(incident_id, 3, "persistence", SAVED))
    return incident_id


async def test_one_target_in_full(client: httpx2.AsyncClient) -> None:
    name = NAMES[0]
    await seen_through(client, name)
    other = [await burns(service_of(client).database, name, "info") for _ in range(20)]
    await keep(service_of(client).database, sample(name, 1), sample(name, 90))
    with asked(service_of(client).database) as statements:
        html = await look(client, f"/targets/{name}")
    assert len(statements) <= 30
    assert html.count('id="of-inc') == 20
    assert other[-1] in html
    listed = await look(client, f"/targets?words={name}")
    assert "&lt;script&gt;alert(1)" in html
    for text in ("p4ssw0rd", "<script>alert"):
        assert text not in html + listed
    await look(client, "/targets/no-such", 404)


async def test_what_its_newest_incident_saw_is_told_with_its_age(
    client: httpx2.AsyncClient,
) -> None:
    incident_id = await seen_through(client, NAMES[0])
    html = await look(client, f"/targets/{NAMES[0]}")
    for told in (
        "1 of 1 fail", f'href="/incidents/{incident_id}/evidence/E1"', "100.0 MiB used on",
        "the last attempt failed", f'href="/incidents/{incident_id}/evidence/E3"', ">2 h ",
    ):  # fmt: skip
        assert told in html, told
    assert "1 of 1 fail" in await look(client, f"/targets?words={NAMES[0]}")


async def test_whoever_may_has_it_looked_at_now(client: httpx2.AsyncClient) -> None:
    path = f"/targets/{NAMES[0]}"
    form = {"csrf": seal_of(await look(client, path)), "question": "why?"}
    begun = await client.post(f"{path}/investigate", data=form)
    assert begun.status_code == 303
    found = await client.get(f"/v1{begun.headers['location']}")
    assert (found.json()["target"], found.json()["question"]) == (NAMES[0], "why?")
    assert (await client.post(f"{path}/investigate", data={"question": "?"})).status_code == 403
    long = await client.post(f"{path}/investigate", data=form | {"question": "x" * 3_000})
    assert (long.status_code, "question" in long.text) == (422, True)
    await sign_in(client, "viewer")
    html = await look(client, path)
    assert "Investigate now" not in html
    form["csrf"] = seal_of(html)
    refused = await client.post(f"{path}/investigate", data=form)
    assert refused.status_code == 403


async def test_freezes_and_silences_are_told_where_they_are_about_the_target(
    settings: Callable[..., Settings],
) -> None:
    window = {"reason": "Black week", "until": f"{NOW + timedelta(days=3):%Y-%m-%d}"}
    app = create_app(
        settings(targets=TARGETS, freezes=[window | {"targets": NAMES[1]}]), worker=False
    )
    async with serving(app) as client:
        for target, reason in ((NAMES[0], "moving"), (None, "everything"), (NAMES[2], HOSTILE)):
            body = {"target": target, "reason": reason}
            assert (await client.post("/v1/freezes", json=body)).status_code == 201
        quiet = {"target": NAMES[0], "labels": {"team": "a<b"}, "reason": "known"}
        assert (await client.post("/v1/silences", json=quiet)).status_code == 201
        await sign_in(client, "viewer")
        told = {name: await look(client, f"/targets/{name}") for name in NAMES[:3]}
        listed = await look(client, "/targets")
    for name, reasons in (
        (NAMES[0], {"moving", "everything", "known"}), (NAMES[1], {"Black week", "everything"}),
        (NAMES[2], {"everything"}),
    ):  # fmt: skip
        all_of_them = ("moving", "everything", "Black week", "known")
        assert {one for one in all_of_them if f"<bdi>{one}</bdi>" in told[name]} == reasons
    assert "Some alerts silenced by <bdi>admin-1</bdi>" in told[NAMES[0]]
    assert "team=a&lt;b" in told[NAMES[0]]
    assert listed.count("<bdi>everything</bdi>") == 50
    assert listed.count("<bdi>Black week</bdi>") == 1


async def test_both_databases_tell_the_same_at_a_glance(database: Database) -> None:
    first, second = await burns(database, "a"), await burns(database, "b", "info")
    over = await burns(database, "a")
    async with database.writing() as session:
        await incidents.move(session, await incidents.lock(session, over), "closed", "by hand")
    await keep(
        database,
        *(sample("a", ago, 100.0 + ago) for ago in (1, 5, 70)),
        sample("b", 3),
        *(evidence(second, number, "persistence", SAVED) for number in (1, 2)),
    )
    async with database.writing() as session:
        row = await session.get_one(IncidentRow, second)
        row.diagnosis, row.last_evidence = {"title": "found", "root_cause": "hot-key"}, 2
    names = ["a", "b", "c'\"; --"]
    async with database.reading() as session:
        samples = await glances.last_samples(session, names)
        assert {name: row.used_bytes // MIB for name, row in samples.items()} == {
            "a": 101,
            "b": 500,
        }
        spans = await glances.spans(session, names, NOW - timedelta(hours=1))
        assert sorted(spans) == ["a", "b"]
        assert await glances.severities(session) == {"a": {"critical"}, "b": {"info"}}
        titles = {one.id: one.title for one in await glances.open_on(session, names)}
        assert titles == {first: HOSTILE, second: "found"}
        found = await glances.newest(session, names)
        assert {name: one.id for name, one in found.items()} == {"a": max(first, over), "b": second}
        assert found["a"].persistence is None
        look = found["b"].persistence
        assert look is not None
        assert look.number == 2
        assert (await uses(session, {"hot-key": ["book"]})) == {"book": [second]}
        trail = await trail_page(session, KEYS, Wanted(), None)
    assert trail.head == len(trail.rows) == trail.checked
    assert trail.found == ""
