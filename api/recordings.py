"""An incident's recording with the verdict on it: how production becomes part of the suite."""

import base64
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from agent.incident import Culprit
from api.auth import Responder
from api.listing import IncidentId
from api.problems import Problem, busy, documented
from api.service import Service
from api.store import audit, incidents, leases, recordings

router = APIRouter(prefix="/v1", tags=["incidents"], responses=documented(404))
On = Annotated[Service, Depends(Service.of)]


class Label(BaseModel):
    """What a person said it really was."""

    root_cause: str
    culprit: Culprit | None
    """None: nobody said."""
    comment: str
    by: str
    at: datetime


class LabelledRecording(BaseModel):
    """What the tools saw during an investigation, and what it really was."""

    incident: str
    attempt: int
    flavour: str
    """`redis 7.0.15`, `valkey 9.1.2`, or `unknown`"""
    taken_at: datetime
    recording: str = Field(description="The file (.jsonl.gz) in base64")
    verdict: Label


@router.get("/incidents/{incident_id}/recording", responses=documented(409))
async def get_recording(
    service: On, person: Responder, incident_id: IncidentId
) -> LabelledRecording:
    """The recording that the last verdict is about. 409 while nobody has given one."""
    database = service.database
    async with database.writing() as session:
        await incidents.lock(session, incident_id)
        verdict = await recordings.verdict_on(session, incident_id)
        if verdict is None:
            raise Problem(409, "nobody has said what it really was: give a verdict first")
        kept = await recordings.judged(session, incident_id, verdict.at)
        if kept is None and await leases.is_held(session, database, incident_id):
            raise busy(
                "it is being investigated, or its recording is just being kept; try again soon"
            )
        if kept is None:
            raise Problem(
                404,
                "no recording of it is kept: it made room for newer ones, recordings are off, "
                "or a crash cut the investigation in two (reinvestigate, then judge again)",
            )
        # It leaves the house: who took it along is on record.
        await audit.note(session, person, "export", incident_id, attempt=kept.attempt)
        return LabelledRecording(
            incident=incident_id,
            attempt=kept.attempt,
            flavour=kept.flavour,
            taken_at=kept.taken_at,
            recording=base64.b64encode(kept.data).decode("ascii"),
            verdict=Label(
                root_cause=verdict.root_cause,
                culprit=Culprit.model_validate(verdict.culprit) if verdict.culprit else None,
                comment=verdict.comment,
                by=verdict.by,
                at=verdict.at,
            ),
        )
