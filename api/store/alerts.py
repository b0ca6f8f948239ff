"""Alerts: deduplicated by a unique key, and grouped into incidents.

An alert joins the incident that is open on its target, or on one that is declared a part of the
same; else it opens one. `api/store/closing.py` says when that ends by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from agent.incident import Alert
from api.store import closing, incidents, looks, occurrences
from api.store.database import Database
from api.store.events import publish
from api.store.homes import Homes
from api.store.place import Place
from api.store.silences import Silence
from api.store.tables import AlertRow, IncidentRow

MOST_FLAPPING_LOOKS = 2
"""An alert that begins more often within FLAP_WINDOW, each time anew, is left to a person."""
_SEVERITIES = ("info", "warning", "critical")


@dataclass(frozen=True)
class _Sent:
    """An alert as it was sent, and what is to be known of it."""

    alert: Alert
    place: Place
    problem: str
    silence: Silence | None
    times: Sequence[AlertRow]
    """Of this alert, as the store has them."""
    full: bool
    """There is no room for what would open another incident."""


class QueueFull(Exception):
    """Too many incidents wait for a worker: no other is opened for this alert."""


async def firing(
    database: Database,
    session: AsyncSession,
    alert: Alert,
    place: Place,
    problem: str = "",
    *,
    silence: Silence | None = None,
    homes: Homes | None = None,
    full: bool = False,
    times: Sequence[AlertRow] | None = None,
) -> tuple[IncidentRow | None, bool]:
    """The incident of a firing alert, and whether it was opened for it.

    Without a target (or with a problem) it is opened for a person, and nothing is looked at; nor
    is for a silenced alert. None: the alert is known to be over, its end came first. `homes`: read
    by a caller that holds the place's lock. `full`: what would open an incident for a worker raises
    QueueFull, unless it is critical. `times`: of this alert, as the store has them, if the caller
    knows.
    """
    if homes is None:
        await database.exclude(session, *sorted(place.locks(alert.fingerprint)))
        homes = await Homes.of(session, [place])
    if times is None:
        times = await occurrences.times(session, alert)
    known = await occurrences.find(session, alert, times)
    if known is not None:
        sent = _Sent(alert, place, problem, silence, times, full)
        return await _sent_again(session, known, sent, homes)
    if occurrences.is_over(alert, times):
        return None, False
    before = next((row for row in times if row.incident_id is not None), None)
    alert = alert.model_copy(
        update={
            "target": place.target,
            "flaps": occurrences.flaps(times),
            "silenced_until": silence.until if silence else None,
        }
    )
    home = await _home(session, place, before, silence, homes)
    follows = (before.incident_id or "") if before is not None else ""
    row = home or await _open(session, alert, problem, silence, follows, full=full)
    homes.add(row)
    occurrences.keep(session, alert, row.id)
    if home is not None:
        await _join(session, home, alert, silence, homes)
    return row, home is None


async def _home(
    session: AsyncSession,
    place: Place,
    before: AlertRow | None,
    silence: Silence | None,
    homes: Homes,
) -> IncidentRow | None:
    """The incident it joins; None: it needs one of its own."""
    if not place.target:  # alerts of no target have nothing in common but to be the same one
        if before is None or before.incident_id is None:
            return None
        last = await incidents.lock(session, before.incident_id)
        return None if last.status in incidents.CLOSED else last
    row = homes.on(place)
    if row is not None or silence is None:
        return row
    return await session.scalar(
        select(IncidentRow)
        .where(
            IncidentRow.target == place.target,
            IncidentRow.status == "closed",
            IncidentRow.silenced_until > incidents.now(),
            IncidentRow.attempt == 1,
        )
        .order_by(IncidentRow.id.desc())
        .limit(1)
        .with_for_update()
    )


async def _open(
    session: AsyncSession,
    alert: Alert,
    problem: str,
    silence: Silence | None,
    follows: str,
    *,
    full: bool = False,
) -> IncidentRow:
    """An incident of its own; with a problem, for a person. Raises QueueFull."""
    if alert.flaps >= MOST_FLAPPING_LOOKS and not problem:
        problem = (
            f"it flaps: it began {alert.flaps + 1} times within an hour and was looked at "
            f"before ({follows}); a person decides"
        )
    starts = not (problem or silence)
    if full and starts and alert.severity != "critical":
        raise QueueFull(alert.target)
    row = await incidents.open_incident(
        session,
        title=alert.name,
        target=alert.target,
        severity=alert.severity,
        status="closed" if silence else "needs_human" if problem else "queued",
        ended_because=str(silence) if silence else problem,
    )
    row.follows = follows
    if silence is not None:
        row.silenced_by, row.silenced_until = silence.by, silence.until
    if told := _told(alert, silence) | ({"follows": follows} if follows else {}):
        await _say(session, row, alert, told)
    return row


async def _join(
    session: AsyncSession,
    row: IncidentRow,
    alert: Alert,
    silence: Silence | None,
    homes: Homes,
) -> None:
    await _say(session, row, alert, _told(alert, silence))
    if silence is not None:
        return
    row.closes_at = None
    is_worse = _is_worse(alert, row)
    if is_worse:
        row.severity = alert.severity
    row.updated_at = incidents.now()
    if looks.may_be_asked(row):
        await looks.ask(session, row, alert, await homes.last_look(session, row))
    else:
        await looks.ask_after_this(session, row, alert, is_worse=is_worse)


def _told(alert: Alert, silence: Silence | None) -> dict[str, Any]:
    flaps = {"flaps": alert.flaps} if alert.flaps else {}
    return flaps | ({"silenced": str(silence)} if silence else {})


async def _say(session: AsyncSession, row: IncidentRow, alert: Alert, more: dict[str, Any]) -> None:
    data = {"status": row.status, "alert": alert.name, "target": alert.target}
    await publish(session, row, "status", data | more)


async def _sent_again(
    session: AsyncSession, known: AlertRow, sent: _Sent, homes: Homes
) -> tuple[IncidentRow | None, bool]:
    """Senders repeat themselves. What was silenced is looked at once it is not any more.

    So is what still fires long after its incident was resolved, or is worse than it was then,
    unless the target is looked at; what fits a target that is configured only now; and what fires
    on though it was told to be over.
    """
    alert, place, problem, silence = sent.alert, sent.place, sent.problem, sent.silence
    own = await homes.lock(session, known.incident_id) if known.incident_id else None
    if known.status == "resolved" and occurrences.may_be_late(known):
        return own, False
    fits_now = own is not None and not own.target and bool(place.target) and not problem
    if own is None or known.status == "resolved" or (fits_now and silence is None):
        return await _moved(session, known, sent, homes)
    if known.silenced_until is None:
        has_room = not sent.full or alert.severity == "critical"
        is_free = bool(place.target) and homes.on(place) is None
        if silence is None and has_room and is_free and (because := _because(own, known, alert)):
            homes.add(own)
            known.severity = alert.severity
            own.severity = max(own.severity, alert.severity, key=_SEVERITIES.index)
            await incidents.begin_attempt(session, own, because)
        else:
            await _worsened(session, own, known, alert, homes)
        return own, False
    untouched = own.status == "closed" and own.attempt == 1 and own.silenced_until is not None
    if silence is not None:
        known.silenced_until = silence.until
        if untouched:
            own.silenced_by, own.silenced_until = silence.by, silence.until
        return own, False
    known.silenced_until = None
    known.flaps = occurrences.flaps(sent.times)  # as it is now, not as it was before the silence
    alert = alert.model_copy(update={"target": place.target, "flaps": known.flaps})
    row = await _home(session, place, known, None, homes)
    if row is not None:
        known.incident_id = row.id
        await _join(session, row, alert, None, homes)
        return row, False
    if not untouched:
        row = await _open(session, alert, problem, None, own.id)
        homes.add(row)
        known.incident_id = row.id
        return row, True
    homes.add(own)
    own.closes_at = None
    # Lifted early, it was not silenced for as long as was said.
    own.silenced_until = min(own.silenced_until or incidents.now(), incidents.now())
    if problem:
        await incidents.move(session, own, "needs_human", problem)
    else:
        because = f"{alert.name} still fires, and is not silenced any more"
        await incidents.begin_attempt(session, own, because)
    return own, False


def _because(own: IncidentRow, known: AlertRow, alert: Alert) -> str:
    """Why an incident that was resolved is looked at once more; empty if it is not."""
    if looks.resolved_too_soon(own):
        return f"{alert.name} still fires, long after this was resolved"
    if own.status == "resolved" and _is_worse(alert, known):
        return f"{alert.name} still fires, and is {alert.severity} now"
    return ""


async def _moved(
    session: AsyncSession, known: AlertRow, sent: _Sent, homes: Homes
) -> tuple[IncidentRow, bool]:
    """One that is known fires, and not where it was: its incident is another one now."""
    now, silence = incidents.now(), sent.silence
    fires_again = known.status == "resolved"
    flaps = occurrences.flaps(sent.times)
    if fires_again and known.received_at > now - occurrences.FLAP_WINDOW:
        flaps = max(flaps, known.flaps + 1)
    alert = sent.alert.model_copy(
        update={
            "target": sent.place.target,
            "flaps": flaps,
            "silenced_until": silence.until if silence else None,
        }
    )
    before = known.incident_id or ""
    home = await _home(session, sent.place, known if before else None, silence, homes)
    row = home or await _open(session, alert, sent.problem, silence, before, full=sent.full)
    homes.add(row)
    known.incident_id, known.target, known.severity = row.id, alert.target, alert.severity
    known.flaps, known.silenced_until = alert.flaps, alert.silenced_until
    if fires_again:
        known.status, known.ends_at, known.received_at = "firing", None, now
    if home is not None:
        await _join(session, home, alert, silence, homes)
    if before and not fires_again:
        await _left(session, await homes.lock(session, before), alert, row)
    return row, home is None


async def _left(session: AsyncSession, row: IncidentRow, alert: Alert, to: IncidentRow) -> None:
    """An alert has gone from here to another incident: with the last one this is over."""
    data = {"status": row.status, "alert": alert.name, "moved_to": to.id}
    await publish(session, row, "status", data)
    is_asked = bool(row.question)  # by a person, who closes it
    if (
        row.status == "needs_human"
        and not is_asked
        and not await occurrences.still_fires(session, row.id)
    ):
        because = f"{alert.name} fits {to.target}, which is configured now: see {to.id}"
        await incidents.move(session, row, "closed", because)


async def _worsened(
    session: AsyncSession, row: IncidentRow, known: AlertRow, alert: Alert, homes: Homes
) -> None:
    """What fires already may be worse than it was: Datadog's Warn became Triggered."""
    if row.status in incidents.CLOSED or not _is_worse(alert, known):
        return
    known.severity = alert.severity
    if _is_worse(alert, row):
        row.severity = alert.severity
    row.updated_at = incidents.now()
    data = {"status": row.status, "alert": alert.name, "severity": alert.severity}
    await publish(session, row, "status", data)
    if looks.may_be_asked(row):
        await looks.ask(session, row, alert, await homes.last_look(session, row))
    else:
        await looks.ask_after_this(session, row, alert, is_worse=True)


def _is_worse(alert: Alert, row: IncidentRow | AlertRow) -> bool:
    return _SEVERITIES.index(alert.severity) > _SEVERITIES.index(row.severity)


async def resolved(
    session: AsyncSession,
    alert: Alert,
    place: Place,
    homes: Homes,
    times: Sequence[AlertRow] | None = None,
) -> IncidentRow | None:
    """Note that an alert is over. The caller holds the place's lock.

    Once all of its transaction is noted, the caller has to `end` what `homes` has as `quieter`.
    None: it was never seen to fire. That is noted as well, so that a late message about its
    beginning starts nothing. `times`: as the store has them, if the caller knows.
    """
    now = incidents.now()
    if times is None:
        times = await occurrences.times(session, alert)
    over = occurrences.ended_by(alert, times)
    if not over:
        known = await occurrences.find(session, alert, times)
        if known is None:
            ended = alert.model_copy(update={"target": place.target})
            occurrences.keep(session, ended, None, now)
        if known is None or known.incident_id is None:
            return None
        return await homes.lock(session, known.incident_id)
    for known in over:
        known.status, known.ends_at, known.over_at = "resolved", alert.ends_at or now, now
    for incident_id in sorted({str(known.incident_id) for known in over}):
        row = homes.quieter[incident_id] = await homes.lock(session, incident_id)
        data = {"status": row.status, "resolved": alert.name, "target": place.target}
        await publish(session, row, "status", data)
    return row


async def end(session: AsyncSession, homes: Homes) -> None:
    """Close each incident of which an alert is over, if all are and nothing is pending there."""
    for row in homes.quieter.values():
        await closing.consider(session, row)
