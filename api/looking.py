"""One look at a target: a read-only tool, run for whoever asks. Nothing is kept of what it saw."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field, ValidationError

from agent.functions import offered
from api.auth import Responder
from api.incidents import Body
from api.looks import Looks
from api.past import Past
from api.problems import Problem, fields_of
from api.room import Room
from api.service import Service
from api.store import audit
from tools.catalogue import Tool
from tools.reading import printable
from tools.reads import READS

ROOM = Room("looks", most=8, most_of_one=4)
LONGEST_NAME = 100
"""Characters of an argument's name in a refusal."""
router = APIRouter(prefix="/v1", tags=["looks"])


class NewLook(Body):
    """What to look at, and with which tool of `GET /v1/tools`."""

    target: str = Field(max_length=200)
    tool: str = Field(max_length=100)
    args: dict[str, Any] = Field(default_factory=dict, max_length=50)


class Look(BaseModel):
    """What was seen. `reading`: as the tool gives it, or why it could not be measured."""

    target: str
    tool: str
    args: dict[str, Any]
    reading: dict[str, Any]
    measured: bool
    taken_at: datetime
    node: str
    summary: str


@router.post("/looks")
async def look(
    service: Annotated[Service, Depends(Service.of)], person: Responder, body: NewLook
) -> Look:
    """Look at a configured target with one read-only tool."""
    target = service.target(body.target)
    tool = READS.get(body.tool)
    if tool is None:
        message = "not a read-only tool; `GET /v1/tools` lists them"
        raise Problem(422, "there is no such tool", [("tool", message)])
    _check(tool, body.args)
    with ROOM.entered(person):
        async with service.database.writing() as session:
            about = {"target": target.name, "tool": tool.name}
            await audit.note(session, person, "look", **about)
        past = Past(service.settings, service.database, target.name)
        looks = Looks(target, past=past.known, purpose="look")
        async with service.looking[target.name]:
            try:
                seen = await looks.look(tool.name, body.args)
            finally:
                await looks.close()
    return Look.model_validate(seen.model_dump(exclude={"id"}))


def _check(tool: Tool, args: dict[str, Any]) -> None:
    """Only what is for the asker to set, and fits. Raises Problem."""
    known = offered(tool.args.model_fields)
    there_is = f"no such argument (known: {', '.join(known) or 'none'})"
    errors = [(name, there_is) for name in sorted(args.keys() - known)[:50]]
    if not errors:
        try:
            tool.args.model_validate(args)
        except ValidationError as error:
            errors = fields_of(error.errors())
    if errors:
        named = [(f"args.{printable(name, LONGEST_NAME)}", because) for name, because in errors]
        raise Problem(422, "the tool cannot be asked so", named)
