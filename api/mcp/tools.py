"""The tools: every read-only look at a server, and what the service has on record. None writes."""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

from pydantic import Field

from agent.functions import read_functions
from api.mcp import shown
from api.mcp.asking import Api, Refused
from tools.catalogue import Arguments
from tools.reads import READS

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$")]
Start = Annotated[int, Field(ge=0, le=10_000_000)]
Name = Annotated[str, Field(max_length=200)]
HOW_TO_APPROVE = (
    "Nothing can be approved from here: a person with the role for it reads it and decides, "
    "by the command `person_approves_with` or on the console's page `/incidents/ID`."
)


@dataclass(frozen=True)
class Offered:
    """A tool as clients see it. `call`: its answer as text. Raises ValidationError, Refused."""

    name: str
    description: str
    schema: dict[str, Any]
    call: Callable[[Api, dict[str, Any]], Awaitable[str]]


class IncidentsArguments(Arguments):
    """Which; empty: all, newest first."""

    status: tuple[Annotated[str, Field(max_length=40)], ...] = Field(
        default=(), max_length=9, description="Any of these, such as awaiting_approval."
    )
    target: Annotated[str, Field(max_length=200, description="A server's name.")] = ""
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str, Field(max_length=64, description="next_cursor of the page before.")] = ""


class IncidentArguments(Arguments):
    """Which incident."""

    incident_id: Id


class ReportArguments(IncidentArguments):
    """Which incident's, and where to go on."""

    start: Start = 0


class EvidenceArguments(IncidentArguments):
    """Which piece, and which part of its reading."""

    evidence_id: Annotated[str, Field(pattern=r"^E[1-9][0-9]{0,8}$", description="Such as E7.")]
    path: Annotated[
        str, Field(max_length=200, description="A part of the reading, such as prefixes.3.")
    ] = ""
    start: Annotated[Start, Field(description="Of a list at that path: its first row.")] = 0


class SearchArguments(Arguments):
    """What to look for."""

    query: Annotated[str, Field(min_length=2, max_length=500, description="Words, English.")]
    limit: Annotated[int, Field(ge=1, le=20)] = 5


class RunbookArguments(Arguments):
    """Which runbook."""

    runbook_id: Name
    start: Start = 0


class QuestionArguments(Arguments):
    """A question, and what it is about."""

    message: Annotated[str, Field(min_length=1, max_length=2_000)]
    target: Name = ""
    incident_id: Id | None = None
    thread_id: Annotated[Id | None, Field(description="Of an answer, to go on from it.")] = None


class PlanArguments(IncidentArguments):
    """Which incident's; an action, or all of them."""

    action_id: Id | None = Field(default=None, description="Such as A1: this one, whole.")


class ListArguments(Arguments):
    """Where to go on."""

    start: Start = 0


async def list_incidents(api: Api, args: IncidentsArguments) -> str:
    """The service's incidents with status, severity and cause, newest first."""
    page = await api.get("incidents", **args.model_dump())
    rows = [row(incident) for incident in page["items"]]
    value = {"incidents": rows, "next_cursor": page["next_cursor"]}
    return shown.data("Incidents", value, "A smaller limit shows less of them, but whole.")


async def get_incident(api: Api, args: IncidentArguments) -> str:
    """One incident: alerts, diagnosis with its claims, what was looked at, which actions exist."""
    incident = await api.get("incidents", args.incident_id)
    brief = ("id", "title", "risk", "status", "executable", "relief")
    actions = [{name: one[name] for name in brief} for one in incident["plan"]["actions"]]
    whole = {name: part for name, part in incident.items() if name not in ("plan", "usage")}
    rest = "get_plan, get_evidence and the resource of the incident have what is left out."
    return shown.data("The incident", whole | {"actions": actions}, rest)


async def get_plan(api: Api, args: PlanArguments) -> str:
    """What is proposed for an incident: commands, risk, effect, undo, how a person approves it."""
    plan = (await api.get("incidents", args.incident_id))["plan"]
    wanted = [one for one in plan["actions"] if args.action_id in (None, one["id"])]
    if args.action_id and not wanted:
        raise Refused("the plan has no such action")
    proposals = {"actions": [_proposal(args.incident_id, action) for action in wanted]}
    if args.action_id is None:
        proposals["prevention"] = plan["prevention"]
    rest = "`action_id` shows one action whole."
    return shown.data(f"{HOW_TO_APPROVE} The plan", proposals, rest)


async def get_evidence(api: Api, args: EvidenceArguments) -> str:
    """What one look of an incident saw: the reading, its tool, arguments, time and node."""
    piece = await api.get("incidents", args.incident_id, "evidence", args.evidence_id)
    try:
        piece["reading"] = shown.part_of(piece["reading"], args.path, args.start)
    except LookupError:
        raise Refused("the reading has nothing at that path") from None
    return shown.data("The evidence", piece, _REST_OF_EVIDENCE)


_REST_OF_EVIDENCE = "`path` and `start` lead to the rest: path=prefixes, start=25."


async def get_report(api: Api, args: ReportArguments) -> str:
    """The post-incident report, as Markdown: timeline, cause, actions and their measured effect."""
    text = await api.text("incidents", args.incident_id, "report")
    return shown.prose("The report", text, args.start)


async def list_targets(api: Api, args: ListArguments) -> str:
    """The servers that may be looked at: their names are what `target` of other tools means."""
    targets = (await api.get("targets"))["items"]
    return shown.data("Targets", {"targets": targets[args.start :]}, _REST_OF_A_LIST)


async def list_runbooks(api: Api, args: ListArguments) -> str:
    """The runbooks that are loaded, by id and title, with the causes each knows."""
    kept = ("id", "title", "severity", "causes")
    books = [{n: book[n] for n in kept} for book in (await api.get("runbooks"))["items"]]
    return shown.data("Runbooks", {"runbooks": books[args.start :]}, _REST_OF_A_LIST)


_REST_OF_A_LIST = "`start` leads to the rest: the number of the first one to show."


async def search_runbooks(api: Api, args: SearchArguments) -> str:
    """Sections of the runbooks that answer a question about Redis or Valkey, best first."""
    page = await api.get("passages", **args.model_dump())
    found = [one | {"text": shown.lines(one["text"])} for one in page["items"]]
    return shown.data("Sections of runbooks", {"found": found}, "`get_runbook` has one whole.")


async def get_runbook(api: Api, args: RunbookArguments) -> str:
    """One runbook whole, as Markdown."""
    text = await api.text("runbooks", args.runbook_id)
    return shown.prose("The runbook", text, args.start)


async def ask(api: Api, args: QuestionArguments) -> str:
    """Ask the on-call engineer: an answer from evidence and runbooks, which it cites."""
    body = {name: value for name, value in args.model_dump().items() if value}
    said = await api.post("chat", body=body)
    kept = {name: said[name] for name in ("thread_id", "reasoner", "citations")}
    return shown.data("The answer", {"answer": shown.lines(said["answer"])} | kept)


def row(incident: dict[str, Any]) -> dict[str, Any]:
    """An incident of a list."""
    found = incident["diagnosis"] or {}
    kept = ("id", "status", "severity", "target", "title", "opened_at", "ended_because")
    return {name: incident[name] for name in kept} | {
        "root_cause": found.get("root_cause"),
        "summary": found.get("summary"),
        "confidence": found.get("confidence"),
    }


_PROPOSED = (
    "id", "title", "risk", "status", "relief", "executable", "commands", "preconditions",
    "predicted_effect", "verification", "rollback", "never_touches", "blast_radius", "evidence",
    "approvals_required", "approvals", "rejected_by", "expires_at", "not_before", "notes",
)  # fmt: skip


def _proposal(incident_id: str, action: dict[str, Any]) -> dict[str, Any]:
    proposal = {name: action[name] for name in _PROPOSED}
    proposal["commands"] = [" ".join(command) for command in action["commands"]]
    proposal["artefact"] = shown.lines(action["artefact"])
    if action["executable"] and action["status"] == "proposed":
        proposal["person_approves_with"] = f"redis-oncall approve {incident_id} {action['id']}"
    return proposal


_RECORD: tuple[Callable[..., Awaitable[str]], ...] = (
    list_targets, list_incidents, get_incident, get_plan, get_evidence, get_report, list_runbooks,
    search_runbooks, get_runbook, ask,
)  # fmt: skip


def _of_the_record(run: Callable[..., Awaitable[str]]) -> Offered:
    arguments: type[Arguments] = get_type_hints(run)[list(inspect.signature(run).parameters)[1]]

    async def call(api: Api, given: dict[str, Any]) -> str:
        return await run(api, arguments.model_validate(given))

    return Offered(run.__name__, run.__doc__ or "", _plain(arguments.model_json_schema()), call)


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Without what tells a model nothing."""
    schema.pop("title")
    schema.pop("description")
    for field in schema["properties"].values():
        field.pop("title", None)
    return schema


_TARGET = {"type": "string", "description": "A server's name, of list_targets.", "maxLength": 200}
_REST_OF_A_LOOK = "What is left out comes with narrower arguments; nothing of a look is kept."


def _look(function: dict[str, Any]) -> Offered:
    """A read-only tool of the catalogue, on a target; the API checks its arguments."""
    name, parameters = function["name"], function["parameters"]
    schema = {
        "type": "object",
        "properties": {"target": _TARGET} | parameters["properties"],
        "required": ["target"],
        "additionalProperties": False,
    }

    async def call(api: Api, given: dict[str, Any]) -> str:
        args = {field: value for field, value in given.items() if field != "target"}
        wanted = {"tool": name, "args": args}
        if "target" in given:
            wanted["target"] = given["target"]
        seen = await api.post("looks", body=wanted)
        return shown.data(f"What {name} saw", seen, _REST_OF_A_LOOK)

    return Offered(name, f"{function['description']} Read now, from a server.", schema, call)


TOOLS: dict[str, Offered] = {
    offered.name: offered
    for offered in (
        *map(_of_the_record, _RECORD),
        *(_look(each["function"]) for each in read_functions(READS)),
    )
}
"""All there is; what is not listed here does not exist."""
