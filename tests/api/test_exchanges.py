"""Calls of a model in SQL: what a day may cost holds under concurrency, and nothing is lost."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from agent.budget import DayCaps
from agent.context import ReasonerUnavailable
from agent.exchange import Exchange
from agent.incident import Usage
from api.store import exchanges, incidents
from api.store.database import Database, database_url
from api.store.exchanges import UNSETTLED, SqlLedger
from api.store.tables import ExchangeRow
from tests.api.test_store import journal_of, look, opened

MOST = Usage(llm_calls=1, input_tokens=4_000, output_tokens=1_000, seconds=30, dollars=0.05)
USED = Usage(llm_calls=1, input_tokens=3_000, output_tokens=100, cached_tokens=2_000, dollars=0.01)
WIDE = DayCaps(calls=1_000, tokens=10**9, seconds=10**6)


def exchange(**fields: Any) -> Exchange:
    values = {
        "purpose": "investigation", "model": "openai:m", "at": datetime.now(UTC), "seconds": 2.5,
        "messages": [{"role": "user", "content": "What is wrong?"}], "usage": USED.model_copy(),
        "reply": {"role": "assistant", "content": "Everything."},
    }  # fmt: skip
    return Exchange.model_validate(values | fields)


async def kept(database: Database, incident_id: str, **page: int) -> list[Any]:
    async with database.reading() as session:
        return await exchanges.transcript(
            session, incident_id, page.get("after", 0), page.get("limit", 50)
        )


async def test_an_exchange_is_kept_with_the_incident_and_counted_once(database: Database) -> None:
    journal = await journal_of(database)
    await look(journal)
    await look(journal)
    await journal.ledger.reserve("openai:m", MOST)
    sent = exchange()
    await journal.ledger.keep(sent)
    await journal.add_usage(Usage(seconds=4.0))
    await look(journal)
    incident = await journal.incident()
    assert incident.usage == USED.model_copy(update={"seconds": 4.0, "tool_calls": 3})
    (one,) = await kept(database, incident.id)
    assert one.evidence == ["E1", "E2"]
    assert one.model_dump(include=set(Exchange.model_fields)) == sent.model_dump()
    assert await journal.ledger.spent() == USED.model_copy(update={"seconds": 2.5})


async def test_a_call_of_a_process_that_died_has_cost_what_was_reserved(database: Database) -> None:
    journal = await journal_of(database)
    incident_id = (await journal.incident()).id
    await journal.ledger.reserve("openai:m", MOST)
    after = SqlLedger(database, WIDE, incident_id=incident_id, attempt=1)
    assert await after.spent() == MOST
    (lost,) = await kept(database, incident_id)
    assert (lost.failure, lost.reply, lost.usage.input_tokens) == (UNSETTLED, None, 4_000)
    day = DayCaps(calls=1_000, tokens=9_999, seconds=10**6)
    with pytest.raises(ReasonerUnavailable, match=r"cap of 9,999 tokens a day is met \(5,000 are"):
        await SqlLedger(database, day, thread_id="thread-1").reserve("openai:m", MOST)


@pytest.mark.parametrize(
    "day",
    [
        DayCaps(calls=5, tokens=10**9, seconds=10**6),
        DayCaps(calls=1_000, tokens=5 * 5_000 + 4_999, seconds=10**6),
        DayCaps(calls=1_000, tokens=10**9, seconds=5 * 30 + 29),
        DayCaps(calls=1_000, tokens=10**9, seconds=10**6, dollars=0.299),
    ],
)
async def test_side_by_side_they_never_exceed_the_day(
    url: str, day: DayCaps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes that share a database, incidents and a question in chat."""
    looked = SqlLedger._last_evidence

    async def slowly(ledger: SqlLedger, session: Any) -> int:
        await asyncio.sleep(0.02)  # between the look at the day and the reservation
        return await looked(ledger, session)

    monkeypatch.setattr(SqlLedger, "_last_evidence", slowly)
    from api.store.migrate import migrate

    databases = [Database(database_url(url)) for _ in range(3)]
    await migrate(databases[0])
    ids = [await opened(databases[0], f"cache-{n}") for n in range(11)]
    ledgers = [
        SqlLedger(databases[n % 3], day, incident_id=incident_id, attempt=1)
        for n, incident_id in enumerate(ids)
    ] + [SqlLedger(databases[0], day, thread_id="thread-1")]

    async def call(ledger: SqlLedger) -> bool:
        try:
            await ledger.reserve("openai:m", MOST)
        except ReasonerUnavailable:
            return False
        return True

    made = await asyncio.gather(*map(call, ledgers))
    assert sum(made) == 5
    # What they did not use is there for others.
    await asyncio.gather(
        *(ledger.keep(exchange()) for ledger, was in zip(ledgers, made, strict=True) if was)
    )
    again = await asyncio.gather(*map(call, ledgers))
    assert (sum(again) > 0) == (day.calls > 5)
    for database in databases:
        await database.close()


async def test_a_day_ends_at_midnight_utc(database: Database) -> None:
    day = DayCaps(calls=1, tokens=10**9, seconds=10**6)
    ledger = SqlLedger(database, day, thread_id="thread-1")
    await ledger.reserve("openai:m", MOST)
    await ledger.keep(exchange(purpose="chat"))
    with pytest.raises(ReasonerUnavailable, match="until 00:00 UTC the rules decide alone"):
        await ledger.reserve("openai:m", MOST)
    async with database.writing() as session:
        row = await session.scalar(select(ExchangeRow))
        assert row is not None
        assert row.day == row.at.date()
        await session.execute(update(ExchangeRow).values(day=row.day - timedelta(days=1)))
    await ledger.reserve("openai:m", MOST)


async def test_chat_counts_into_the_day_but_not_into_the_incident(database: Database) -> None:
    incident_id = await opened(database)
    ledger = SqlLedger(database, WIDE, incident_id=incident_id, thread_id="thread-1")
    await ledger.reserve("openai:m", MOST)
    await ledger.keep(exchange(purpose="chat"))
    async with database.reading() as session:
        assert (await incidents.load(session, incident_id)).usage == Usage()
        (today,) = await exchanges.by_day(session, None, 5)
    assert (today.calls, today.input_tokens, today.dollars) == (1, 3_000, 0.01)
    assert await kept(database, incident_id) == []
    investigation = SqlLedger(database, WIDE, incident_id=incident_id, attempt=1)
    assert (await investigation.spent()).llm_calls == 0


async def test_a_transcript_is_paged_oldest_first(database: Database) -> None:
    incident_id = await opened(database)
    for attempt, so_far in ((1, 1), (1, 2), (2, 1)):
        ledger = SqlLedger(database, WIDE, incident_id=incident_id, attempt=attempt)
        await ledger.reserve("openai:m", MOST)
        await ledger.keep(exchange())
        # A person who asks to look again gets the caps of an incident anew.
        assert (await ledger.spent()).llm_calls == so_far
    first = await kept(database, incident_id, limit=2)
    rest = await kept(database, incident_id, after=first[-1].id)
    assert [one.attempt for one in [*first, *rest]] == [1, 1, 2]
    assert [one.id for one in [*first, *rest]] == sorted({one.id for one in [*first, *rest]})


async def test_days_and_models_are_told_apart_newest_first(database: Database) -> None:
    for days_ago, model, dollars in ((0, "a", 0.5), (0, "b", None), (1, "a", 0.25), (2, "a", 1.0)):
        ledger = SqlLedger(database, WIDE, thread_id="thread-1")
        await ledger.reserve(model, MOST.model_copy(update={"dollars": dollars}))
        async with database.writing() as session:
            moved = update(ExchangeRow).where(ExchangeRow.id == ledger._reserved)
            day = datetime.now(UTC).date() - timedelta(days=days_ago)
            await session.execute(moved.values(day=day))
    async with database.reading() as session:
        newest = await exchanges.by_day(session, None, 2)
        older = await exchanges.by_day(session, newest[-1].day, 2)
    assert [(one.model, one.dollars, one.unpriced_calls) for one in newest] == [
        ("a", 0.5, 0), ("b", None, 1), ("a", 0.25, 0),
    ]  # fmt: skip
    assert [one.dollars for one in older] == [1.0]
