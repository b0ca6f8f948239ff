"""Calls of a model in SQL: reserved before, settled after; their transcript and what they cost."""

from collections.abc import Sequence
from datetime import UTC, date, datetime

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from agent.budget import DayCaps
from agent.context import ReasonerUnavailable
from agent.exchange import Exchange, KeptExchange, Purpose, bounded
from agent.incident import Usage, Words
from api import metrics
from api.store import incidents
from api.store.database import Database
from api.store.tables import EvidenceRow, ExchangeRow, IncidentRow

UNSETTLED = "no reply was kept: the call is under way, or the process that made it has ended"
_COUNTED = ("input_tokens", "output_tokens", "cached_tokens", "dollars", "seconds")


class SqlLedger:
    """Implements `agent.exchange.Ledger` for an incident's investigation, or for a chat thread.

    Not fenced by the lease: what a run has spent is spent, also when it was overtaken.
    """

    def __init__(
        self,
        database: Database,
        day: DayCaps,
        *,
        incident_id: str | None = None,
        attempt: int = 0,
        thread_id: str | None = None,
    ) -> None:
        self._database = database
        self._day = day
        self._incident_id = incident_id
        self._attempt = attempt
        self._thread_id = thread_id
        self._purpose: Purpose = "investigation" if thread_id is None else "chat"
        self._reserved: int | None = None

    async def spent(self) -> Usage:
        """In this attempt at the incident, or in the thread."""
        mine = (
            ExchangeRow.incident_id == self._incident_id,
            ExchangeRow.attempt == self._attempt,
            ExchangeRow.thread_id == self._thread_id,
        )
        async with self._database.reading() as session:
            return await _sum(session, *mine)

    async def reserve(self, model: str, most: Usage) -> None:
        """Set the call aside, unless the day cannot pay it: then ReasonerUnavailable."""
        async with self._database.writing() as session:
            # Whoever reserves sees what everybody before has reserved.
            await self._database.exclude(session, "the day of the model")
            at = datetime.fromtimestamp(await self._database.clock(session), UTC)
            today = await _sum(session, ExchangeRow.day == at.date())
            if refusal := self._day.refusal(today, most):
                raise ReasonerUnavailable(refusal)
            row = ExchangeRow(
                incident_id=self._incident_id,
                attempt=self._attempt,
                thread_id=self._thread_id,
                purpose=self._purpose,
                model=model,
                day=at.date(),
                at=at,
                last_evidence=await self._last_evidence(session),
                body=None,
                **{name: getattr(most, name) for name in _COUNTED},
            )
            session.add(row)
            await session.flush()
            self._reserved = row.id

    async def keep(self, exchange: Exchange) -> None:
        """Settle the call that was reserved last."""
        if self._reserved is None:
            raise RuntimeError("an exchange is kept that was not reserved")
        used = exchange.usage.model_copy(update={"seconds": exchange.seconds})
        async with self._database.writing() as session:
            row = await session.get_one(ExchangeRow, self._reserved)
            for name in _COUNTED:
                setattr(row, name, getattr(used, name))
            row.body = bounded(exchange).model_dump(mode="json")
            if self._purpose == "investigation" and self._incident_id is not None:
                incident = await incidents.lock(session, self._incident_id)
                total = Usage.model_validate(incident.usage).plus(exchange.usage)
                incident.usage = total.model_dump()
        self._reserved = None
        failed = bool(exchange.failure)
        metrics.called_model(self._purpose, exchange.usage, exchange.seconds, failed=failed)

    async def _last_evidence(self, session: AsyncSession) -> int:
        newest = select(IncidentRow.last_evidence).where(IncidentRow.id == self._incident_id)
        return int(await session.scalar(newest) or 0)


async def _sum(session: AsyncSession, *which: ColumnElement[bool]) -> Usage:
    columns = [func.sum(getattr(ExchangeRow, name)).label(name) for name in _COUNTED]
    query = select(func.count().label("llm_calls"), *columns).where(*which)
    row = (await session.execute(query)).one()
    return _usage(row._asdict())


def _usage(summed: dict[str, float | int | None]) -> Usage:
    """Sums over no rows are NULL."""
    counted = {name: value for name, value in summed.items() if value is not None}
    return Usage.model_validate(counted)


async def transcript(
    session: AsyncSession, incident_id: str, after: int, limit: int
) -> list[KeptExchange]:
    """The exchanges of an incident's investigation, oldest first, after that id."""
    investigated = (
        ExchangeRow.incident_id == incident_id,
        ExchangeRow.purpose == "investigation",
    )
    rows = await _rows(session, after, limit, *investigated)
    found = await session.execute(
        select(EvidenceRow.attempt, EvidenceRow.number)
        .where(EvidenceRow.incident_id == incident_id)
        .order_by(EvidenceRow.number)
    )
    evidence = [(attempt, number) for attempt, number in found]
    return [to_kept(row, evidence) for row in rows]


async def of_thread(
    session: AsyncSession, thread_id: str, after: int, limit: int
) -> list[KeptExchange]:
    """The exchanges of a chat thread, oldest first, after that id."""
    rows = await _rows(session, after, limit, ExchangeRow.thread_id == thread_id)
    return [to_kept(row, []) for row in rows]


async def _rows(
    session: AsyncSession, after: int, limit: int, *which: ColumnElement[bool]
) -> Sequence[ExchangeRow]:
    query = select(ExchangeRow).where(ExchangeRow.id > after, *which)
    return (await session.scalars(query.order_by(ExchangeRow.id).limit(limit))).all()


def to_kept(row: ExchangeRow, evidence: Sequence[tuple[int, int]]) -> KeptExchange:
    """The exchange as the API shows it. `evidence`: attempt and number of each piece."""
    said = row.body or Exchange.model_validate(
        {
            "purpose": row.purpose,
            "model": row.model,
            "at": row.at,
            "seconds": row.seconds,
            "failure": UNSETTLED,
            "usage": {"llm_calls": 1, **{name: getattr(row, name) for name in _COUNTED}},
        }
    ).model_dump(mode="json")
    known = [f"E{n}" for of, n in evidence if of == row.attempt and n <= row.last_evidence]
    return KeptExchange.model_validate(
        {**said, "id": row.id, "attempt": row.attempt, "evidence": known}
    )


class DayUsage(Words):
    """What a model cost on a UTC day, by everybody who shares the database."""

    day: date
    model: str
    calls: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    seconds: float
    dollars: float | None
    """Of the calls that had a price; None if none had."""
    unpriced_calls: int


async def by_day(session: AsyncSession, before: date | None, days: int) -> list[DayUsage]:
    """The newest days with any calls, newest first, each with its models."""
    newest = select(ExchangeRow.day).distinct().order_by(ExchangeRow.day.desc()).limit(days)
    if before is not None:
        newest = newest.where(ExchangeRow.day < before)
    wanted = list(await session.scalars(newest))
    columns = [func.sum(getattr(ExchangeRow, name)).label(name) for name in _COUNTED]
    rows = await session.execute(
        select(
            ExchangeRow.day,
            ExchangeRow.model,
            func.count().label("calls"),
            (func.count() - func.count(ExchangeRow.dollars)).label("unpriced_calls"),
            *columns,
        )
        .where(ExchangeRow.day.in_(wanted))
        .group_by(ExchangeRow.day, ExchangeRow.model)
        .order_by(ExchangeRow.day.desc(), ExchangeRow.model)
    )
    return [DayUsage.model_validate(row._asdict()) for row in rows]
