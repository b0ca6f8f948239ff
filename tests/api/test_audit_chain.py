"""The audit trail: whoever changes, removes, moves or cuts off a row without the key is seen."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from api.store import audit, trail
from api.store.audit import WrongKey
from api.store.chain import GENESIS, Anchor, Entry, Key, Keyring, Walk
from api.store.database import Database, database_url
from api.store.migrate import downgrade, known_revisions, migrate
from api.store.tables import AuditRow
from tests.api.trails import (
    ALICE,
    KEYS,
    behind_its_back,
    findings,
    head,
    verified,
    write,
)

OTHER = Keyring(Key(b"o" * 32))
NOW = datetime(2026, 1, 31, 3, tzinfo=UTC)
WORDS = st.text(max_size=12)
DETAILS = st.dictionaries(
    st.text(max_size=5), st.none() | st.booleans() | st.integers() | WORDS, max_size=3
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "at": st.datetimes(timezones=st.just(UTC)),
    "by": WORDS, "role": WORDS, "what": WORDS, "incident_id": st.none() | WORDS,
    "detail": DETAILS, "key_id": WORDS, "mac": WORDS, "seq": st.integers(1, 2**31 - 1),
}  # fmt: skip


def chained(details: list[dict[str, Any]]) -> list[Entry]:
    rows, mac = list[Entry](), GENESIS
    for number, detail in enumerate(details, 1):
        fields: dict[str, Any] = {"at": NOW, "by": "alice", "role": "admin", "what": "approve",
                  "incident_id": "inc-1", "detail": detail, "key_id": KEYS.current.id}  # fmt: skip
        mac = Entry(seq=number, **fields).sealed(KEYS.current, mac)
        rows.append(Entry(seq=number, mac=mac, **fields))
    return rows


def walked(rows: list[Entry], true: list[Entry], heads: dict[int, str] | None = None) -> Walk:
    """A walk along these rows; the database's own note of the last one is as it was."""
    walk = Walk(KEYS, heads=heads)
    for row in sorted(rows, key=lambda row: row.seq):
        walk.step(row)
    walk.end((true[-1].seq, true[-1].mac))
    return walk


CHAINS = st.lists(DETAILS, min_size=2, max_size=6).map(chained)


@given(CHAINS, st.data())
def test_a_change_of_any_field_of_any_row_is_seen_in_that_row(
    rows: list[Entry], data: st.DataObject
) -> None:
    assert walked(rows, rows).findings == []
    at = data.draw(st.integers(0, len(rows) - 1))
    name = data.draw(st.sampled_from(sorted(FIELDS)))
    value = data.draw(FIELDS[name])
    assume(json.dumps(value, default=str) != json.dumps(getattr(rows[at], name), default=str))
    changed = [*rows]
    changed[at] = Entry(**{**rows[at].__dict__, name: value})
    found = walked(changed, rows)
    assert found.total
    if name != "seq":  # a row with another number is missing where it was
        assert found.findings[0].seq == rows[at].seq


@given(CHAINS, st.data())
def test_rows_that_are_removed_doubled_or_swapped_are_seen(
    rows: list[Entry], data: st.DataObject
) -> None:
    one, other = data.draw(
        st.lists(st.sampled_from(range(len(rows))), min_size=2, max_size=2, unique=True)
    )
    without = [row for number, row in enumerate(rows) if number != one]
    assert walked(without, rows).findings[0].seq == rows[one].seq
    swapped = [*rows]
    swapped[one] = Entry(**{**rows[other].__dict__, "seq": rows[one].seq})
    swapped[other] = Entry(**{**rows[one].__dict__, "seq": rows[other].seq})
    assert walked(swapped, rows).findings[0].seq == min(rows[one].seq, rows[other].seq)
    put_in = [*rows, Entry(**{**rows[one].__dict__, "seq": len(rows) + 1})]
    assert walked(put_in, rows).findings[0].seq == len(rows) + 1
    doubled = [*rows, rows[one]]
    assert walked(doubled, rows).total


@given(CHAINS, st.data())
def test_what_is_cut_off_shows_against_a_head_that_was_noted_elsewhere(
    rows: list[Entry], data: st.DataObject
) -> None:
    left = rows[: data.draw(st.integers(1, len(rows) - 1))]
    # Whoever cuts also puts the database's own note right: alone it cannot tell.
    assert walked(left, left).findings == []
    heads = {rows[-1].seq: rows[-1].mac}
    (finding,) = walked(left, left, heads).findings
    assert finding.seq == len(left) + 1
    assert "missing at the end" in finding.text
    assert walked(left, rows).findings[0].text.endswith("missing at the end")


def test_a_chain_written_anew_with_the_key_is_not_the_one_that_was_noted() -> None:
    rows, anew = chained([{"n": 1}, {"n": 2}]), chained([{"n": 1}, {"n": 3}])
    assert walked(anew, anew).findings == []
    (finding,) = walked(anew, anew, {2: rows[1].mac}).findings
    assert finding.text == "row 2 is not the row that was noted as the head"


def test_with_another_key_nothing_can_be_said_and_that_is_said() -> None:
    rows = chained([{}, {}])
    walk = Walk(OTHER)
    for row in rows:
        walk.step(row)
    assert f"written with key {KEYS.current.id}, which is not here" in walk.findings[0].text
    assert KEYS.current.id != OTHER.current.id


async def test_deeds_are_chained_and_their_detail_is_redacted(database: Database) -> None:
    await write(database, "approve", comment="password=hunter2", n=float("nan"), at=NOW)
    async with database.writing() as session:
        await audit.note(session, ALICE, "close", None, text="x" * 20_000)
        await audit.note(session, ALICE, "close", None, name="\x00\ud800<b>")
    walk = await verified(database)
    assert (walk.rows, walk.findings) == (3, [])
    async with database.reading() as session:
        first, second, _ = await session.scalars(select(AuditRow).order_by(AuditRow.id))
    assert "hunter2" not in json.dumps(first.detail)
    assert list(second.detail) == ["cut"]
    assert len(second.detail["cut"]) == audit.LONGEST_DETAIL


async def test_what_is_not_committed_leaves_no_gap(database: Database) -> None:
    await write(database, "approve")
    with pytest.raises(RuntimeError):  # noqa: PT012 - it is the block that fails
        async with database.writing() as session:
            await audit.note(session, ALICE, "reject")
            raise RuntimeError
    await write(database, "close")
    walk = await verified(database)
    assert (walk.seq, walk.findings) == (2, [])


async def test_many_writers_keep_one_chain(database: Database) -> None:
    await asyncio.gather(*(write(database, "view", "view") for _ in range(20)))
    walk = await verified(database)
    assert (walk.rows, walk.findings) == (40, [])


@pytest.mark.parametrize(
    ("spoil", "finding"),
    [
        ("UPDATE audit SET \"by\" = 'bob' WHERE id = 2", "row 2: it was changed"),
        ("UPDATE audit SET detail = '{\"a\": 2}' WHERE id = 2", "row 2: it was changed"),
        ("UPDATE audit SET at = '2020-01-01 00:00:00.0' WHERE id = 2", "row 2: it was changed"),
        ("UPDATE audit SET mac = '' WHERE id = 2", "row 2: it was changed"),
        ("DELETE FROM audit WHERE id = 2", "row 2 is missing"),
        ("DELETE FROM audit WHERE id IN (2, 3)", "rows 2 to 3 are missing"),
        ("DELETE FROM audit WHERE id = 1", "row 1 is missing"),
        ("DELETE FROM audit WHERE id = 4", "row 4 is missing at the end"),
        ("UPDATE audit SET id = 9 WHERE id = 2", "row 2 is missing"),
        ("UPDATE audit SET id = -1 WHERE id = 2", "row -1 does not belong after row 0"),
        ("UPDATE audit_head SET seq = 3", "the last row is 4, and the note"),
        ("DELETE FROM audit_head", "the note of the last row is missing"),
        (
            "INSERT INTO audit SELECT 5, at, \"by\", role, what, incident_id, detail, key_id, mac "
            "FROM audit WHERE id = 4",
            "row 5: it was changed, or it is not the row that was written after",
        ),
    ],
)  # fmt: skip
async def test_whatever_is_done_in_the_database_is_named(
    database: Database, spoil: str, finding: str
) -> None:
    await write(database, "investigate", "approve", "verdict", "close")
    await behind_its_back(database, spoil)
    assert finding in (await findings(database))[0]


async def test_what_cannot_even_be_read_is_named_too(tmp_path: Any) -> None:
    database = Database(database_url(f"sqlite:///{tmp_path / 'a.db'}"))
    await migrate(database)
    await trail.begin(database, KEYS)
    await write(database, "approve", "approve", "approve", "approve")
    await behind_its_back(
        database,
        "UPDATE audit SET detail = '{not json' WHERE id = 2",
        "UPDATE audit SET at = 'yesterday' WHERE id = 4",
    )
    assert await findings(database) == [
        "row 2 was changed: it cannot be read",
        "row 4 was changed: it cannot be read",
        "the last row is 4, and the note of the last row says 4",
    ]
    await database.close()


async def test_all_of_it_gone_shows_against_a_noted_head(database: Database) -> None:
    await write(database, "approve", "close")
    noted = dict([await head(database)])
    gone = ("DELETE FROM audit", "DELETE FROM audit_head")
    await behind_its_back(database, *gone)
    assert await findings(database) == []
    assert "rows 1 to 2 are missing at the end" in (await findings(database, noted))[0]


@pytest.mark.parametrize("statement", ["UPDATE audit SET what = 'x'", "DELETE FROM audit"])
async def test_the_database_itself_refuses_to_change_rows(
    database: Database, statement: str
) -> None:
    await write(database, "approve")
    with pytest.raises(DBAPIError, match="append-only"):
        async with database.writing() as session:
            await session.execute(text(statement))
    if not database.is_sqlite:
        with pytest.raises(DBAPIError, match="append-only"):
            async with database.writing() as session:
                await session.execute(text("TRUNCATE audit"))
    assert (await verified(database)).rows == 1


async def test_pruning_leaves_an_anchor_that_the_rest_hangs_on(database: Database) -> None:
    await write(database, "investigate", "approve", "close")
    removed = await trail.prune(database, datetime.now(UTC) + timedelta(days=1), ALICE)
    assert removed == 2  # the last row stays
    await write(database, "approve")
    walk = await verified(database)
    assert (walk.first, walk.rows, walk.findings) == (3, 3, [])
    await behind_its_back(database, "UPDATE audit_anchor SET seq = 3")
    assert "the anchor at row 3 was changed" in (await findings(database))[0]
    await behind_its_back(database, "DELETE FROM audit_anchor")
    assert await findings(database) == ["rows 1 to 2 are missing"]


async def test_nothing_is_pruned_from_a_broken_chain(database: Database) -> None:
    await write(database, "investigate", "approve", "close")
    await behind_its_back(database, "UPDATE audit SET \"by\" = 'bob' WHERE id = 2")
    with pytest.raises(trail.Broken, match="row 2"):
        await trail.prune(database, datetime.now(UTC) + timedelta(days=1), ALICE)
    assert (await verified(database)).rows == 3


async def test_pruning_goes_by_pages(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "PAGE", 3)
    await write(database, *["view"] * 8)
    cut = datetime.now(UTC)
    await write(database, "close")
    assert await trail.prune(database, cut, ALICE) == 8
    walk = await verified(database)
    assert (walk.first, walk.findings) == (9, [])


async def test_another_machine_with_another_key_is_told_what_to_do(database: Database) -> None:
    await write(database, "approve")
    with pytest.raises(WrongKey, match="REDIS_ONCALL_KEY here to the other machine's"):
        await trail.begin(database, OTHER)
    await write(database, "close")
    assert await findings(database) == []


async def test_a_key_is_changed_with_the_word_of_the_one_before(database: Database) -> None:
    await write(database, "approve")
    both = Keyring(OTHER.current, (KEYS.current,))
    await trail.begin(database, both)
    await write(database, "close")
    walk = await verified(database, both)
    assert (walk.rows, walk.findings) == (3, [])
    # Whoever still runs with the old key may not go on.
    database.audit_keys = KEYS
    with pytest.raises(WrongKey):
        await write(database, "approve")
    # Without the old key its rows stand unverified, and the change itself is not hidden.
    assert "which is not here" in (await verified(database, OTHER)).findings[0].text


async def test_a_lost_key_ends_what_can_be_verified_and_that_stays_visible(
    database: Database,
) -> None:
    await write(database, "approve")
    assert not await trail.rekey_lost(database, KEYS, ALICE)
    assert await trail.rekey_lost(database, OTHER, ALICE)
    await trail.begin(database, OTHER)
    await write(database, "close")
    found = (await verified(database, OTHER)).findings
    assert [finding.seq for finding in found] == [1, 2]


async def test_a_head_that_is_gone_is_not_made_anew_over_what_is_there(
    database: Database,
) -> None:
    await write(database, "approve", "close")
    await behind_its_back(
        database, "UPDATE audit SET \"by\" = 'bob' WHERE id = 1", "DELETE FROM audit_head"
    )
    (damage,) = await trail.begin(database, KEYS)
    assert "was gone" in damage
    assert (await findings(database))[0].startswith("row 1: it was changed")


async def test_rows_from_before_the_chain_are_kept_and_sealed_as_found(
    database: Database,
) -> None:
    await downgrade(database, "0003")
    async with database.engine.begin() as connection:
        for number in (1, 2, 5):
            await connection.execute(
                text(
                    'INSERT INTO audit (id, at, "by", role, what, detail) '
                    "VALUES (:id, '2026-01-31 03:00:00.000000', 'ada', 'admin', 'approve', '{}')"
                ),
                {"id": number},
            )
    done = await migrate(database)
    assert (done.before, done.after) == ("0003", known_revisions()[0])
    await trail.begin(database, KEYS)
    await write(database, "close")
    walk = await verified(database)
    assert (walk.first, walk.seq, walk.findings) == (1, 4, [])
    async with database.reading() as session:
        assert (await session.get_one(AuditRow, 3)).by == "ada"
    await downgrade(database, "0003")
    await migrate(database)


@given(DETAILS)
@example({"b": 1, "a": {"z": [1.5, None, True]}})
@settings(max_examples=50)
def test_the_same_is_signed_however_json_orders_it(detail: dict[str, Any]) -> None:
    turned = dict(reversed(list(detail.items())))
    assert KEYS.current.sign(detail) == KEYS.current.sign(turned)


def test_an_anchor_is_only_as_good_as_its_signature() -> None:
    unsigned = Anchor(7, "a" * 64, NOW, KEYS.current.id)
    signed = Anchor(7, "a" * 64, NOW, KEYS.current.id, unsigned.sealed(KEYS.current))
    assert signed.problem(KEYS) == ""
    assert "was changed" in unsigned.problem(KEYS)
    assert "not at hand" in signed.problem(OTHER)
