"""Silencing alerts while the service runs, and lifting that again."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import AfterValidator, Field, model_validator

from agent.redaction import redact
from api.alerts.parsed import clean
from api.auth import Responder, Viewer
from api.freezes import Freeze, Reason, configured, declared
from api.incidents import Body
from api.listing import Page
from api.problems import Problem, documented
from api.service import Service
from api.store import audit, incidents, silences
from api.store.target_tables import SilenceRow

LONGEST = timedelta(days=7)
"""What is to be silent for longer is a rule to change at its source, or a configured window."""
USUAL_MINUTES = 120
MOST_LABELS = 20
router = APIRouter(prefix="/v1/silences", tags=["silences"])
On = Annotated[Service, Depends(Service.of)]


def _as_alerts_have_it(text: str) -> str:
    """Redacted, as labels of alerts are kept: two that are not the same may look alike there.

    A URL without its password is still told apart by its host.
    """
    plain = clean(text)
    kept = redact(plain)
    if kept != plain and "[redacted" in kept.replace("[redacted password]@", ""):
        raise ValueError(
            "what looks like a secret or an address is kept of no alert, so alerts cannot be told "
            "apart by it: name another label or a target"
        )
    return kept


Text = Annotated[str, Field(max_length=500), AfterValidator(_as_alerts_have_it)]


class NewSilence(Body):
    """Which alerts start nothing, for how long, and why."""

    reason: Reason
    target: str | None = Field(default=None, max_length=200)
    labels: dict[Text, Text] = Field(default_factory=dict, max_length=MOST_LABELS)
    """All of which an alert has to carry; `alertname` is its name."""
    minutes: int = Field(default=USUAL_MINUTES, ge=1, le=int(LONGEST.total_seconds()) // 60)

    @model_validator(mode="after")
    def _says_what(self) -> "NewSilence":
        if self.target is None and not self.labels:
            raise ValueError("name a target or labels: silencing everything is not possible")
        return self


class Silence(Freeze):
    """A time in which alerts start nothing."""

    labels: dict[str, str]
    """All of which they carry."""


@router.get("")
async def list_silences(service: On, _: Viewer) -> Page[Silence]:
    """What is silenced now or will be, declared or by a configured window."""
    now = incidents.now()
    async with service.database.reading() as session:
        silenced = [_shown(row) for row in await silences.in_force(session, now)]
    windows = (configured(window, now) for window in service.settings.config.silencing())
    shown = [Silence(labels={}, **window.model_dump()) for window in windows if window is not None]
    return Page(items=[*silenced, *shown])


@router.post("", status_code=201, responses=documented(409))
async def silence(service: On, person: Responder, body: NewSilence) -> Silence:
    """From now on such alerts are kept and start nothing. Whatever is under way goes on."""
    if body.target is not None:
        service.target(body.target)  # or 422
    async with service.database.writing() as session:
        now = incidents.now()
        until = now + timedelta(minutes=body.minutes)
        try:
            row = await silences.declare(
                session, body.target, body.labels, body.reason, person.name, now, until
            )
        except silences.TooMany:
            many = f"{silences.MOST} silences are in force already: lift one of them first"
            raise Problem(409, many) from None
        await audit.note(session, person, "silence", None, silence=row.id, target=body.target,
                         labels=body.labels, until=until.isoformat(),
                         reason=body.reason)  # fmt: skip
        return _shown(row)


@router.post("/{silence_id}/lift", responses=documented(404))
async def lift(
    service: On,
    person: Responder,
    silence_id: Annotated[int, Path(ge=1, le=2**31 - 1, description="The silence's number")],
) -> Silence:
    """It is over. Alerts that it silenced and that still fire are looked at now."""
    async with service.database.writing() as session:
        try:
            row = await silences.lift(session, silence_id, person.name, incidents.now())
        except silences.NoSuchSilence:
            raise Problem(404, "there is no such silence, or it is over") from None
        await audit.note(session, person, "lift", None, silence=row.id, target=row.target,
                         labels=row.labels)  # fmt: skip
        return _shown(row, active=False)


def _shown(row: SilenceRow, *, active: bool = True) -> Silence:
    return Silence(**declared(row), labels=row.labels, active=active)
