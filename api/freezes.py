"""Freezing changes while the service runs, and thawing them again."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from pydantic import AfterValidator, BaseModel, Field

from agent.windows import Window
from api.auth import Approver, Viewer
from api.incidents import Body
from api.listing import Comment, Page
from api.problems import Problem, documented
from api.service import Service
from api.store import audit, freezes, incidents
from api.store.target_tables import FreezeRow, SilenceRow

LONGEST = timedelta(days=30)
USUAL_MINUTES = 240
router = APIRouter(prefix="/v1/freezes", tags=["freezes"])
On = Annotated[Service, Depends(Service.of)]


def _says_why(reason: str) -> str:
    if len(reason.strip()) < 3:
        raise ValueError("say why, in 3 characters or more")
    return reason


Reason = Annotated[Comment, AfterValidator(_says_why)]


class NewFreeze(Body):
    """What to freeze, for how long, and why."""

    reason: Reason
    target: str | None = Field(default=None, max_length=200)
    """None: every target."""
    minutes: int = Field(default=USUAL_MINUTES, ge=1, le=int(LONGEST.total_seconds()) // 60)


class Freeze(BaseModel):
    """A time in which nothing is changed."""

    id: int | None
    """None: it is configured, and ended there."""
    targets: list[str]
    """Empty: every target, unless there are environments."""
    environments: list[str]
    reason: str
    by: str
    since: datetime | None
    until: datetime | None
    active: bool


@router.get("")
async def list_freezes(service: On, _: Viewer) -> Page[Freeze]:
    """What is frozen now or will be, configured or declared."""
    now = incidents.now()
    async with service.database.reading() as session:
        frozen = [_shown(row) for row in await freezes.in_force(session, now)]
    windows = (configured(window, now) for window in service.settings.policy.freezes)
    return Page(items=[*frozen, *(freeze for freeze in windows if freeze is not None)])


@router.post("", status_code=201, responses=documented(409))
async def freeze(service: On, person: Approver, body: NewFreeze) -> Freeze:
    """From now on nothing is changed there; a remedy under way stops after its present batch."""
    if body.target is not None:
        service.target(body.target)  # or 422
    async with service.database.writing() as session:
        now = incidents.now()
        until = now + timedelta(minutes=body.minutes)
        try:
            row = await freezes.declare(session, body.target, body.reason, person.name, now, until)
        except freezes.TooMany:
            many = f"{freezes.MOST} freezes are in force already: thaw one of them first"
            raise Problem(409, many) from None
        await audit.note(session, person, "freeze", None, freeze=row.id, target=body.target,
                         until=row.until.isoformat(), reason=body.reason)  # fmt: skip
        return _shown(row)


@router.post("/{freeze_id}/thaw", responses=documented(404))
async def thaw(
    service: On,
    person: Approver,
    freeze_id: Annotated[int, Path(ge=1, le=2**31 - 1, description="The freeze's number")],
) -> Freeze:
    """Changes may go on. What is approved and waited is looked at again at once."""
    async with service.database.writing() as session:
        try:
            row = await freezes.thaw(session, freeze_id, person.name, incidents.now())
        except freezes.NoSuchFreeze:
            raise Problem(404, "there is no such freeze, or it is over") from None
        await audit.note(session, person, "thaw", None, freeze=row.id, target=row.target)
        return _shown(row, active=False)


def _shown(row: FreezeRow, *, active: bool = True) -> Freeze:
    return Freeze(**declared(row), active=active)


def declared(row: FreezeRow | SilenceRow) -> dict[str, Any]:
    """What a person declared, as it is shown."""
    targets = [row.target] if row.target else []
    return {
        "id": row.id, "targets": targets, "environments": [], "reason": row.reason, "by": row.by,
        "since": row.at, "until": row.until,
    }  # fmt: skip


def configured(window: Window, now: datetime) -> Freeze | None:
    """A configured window. None: it is over, or not near."""
    end, begin = window.open_until(now), window.opens_after(now)
    if end is None and begin is None:
        return None
    if end is None and begin is not None:
        end = window.open_until(begin)
    return Freeze(
        id=None,
        targets=sorted(window.targets),
        environments=sorted(window.environments),
        reason=window.reason,
        by="the configuration",
        since=None if window.open_until(now) is not None else begin,
        until=end if end is None or end < datetime.max.replace(tzinfo=UTC) else None,
        active=window.open_until(now) is not None,
    )
