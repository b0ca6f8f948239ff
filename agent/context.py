"""What a run may reach, as protocols: the target, the journal, the runbooks, the reasoner."""

from asyncio import Task
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from agent.exchange import Ledger
from agent.incident import (
    NOTHING,
    Action,
    Diagnosis,
    DiagnosisDraft,
    Incident,
    Plan,
    RunbookMatch,
    Status,
    Usage,
)
from agent.policy import BUILT_IN, AutoLimits, Policy
from agent.precedents import Earlier
from agent.runbook import Library
from agent.telemetry import SILENT, Telemetry
from agent.true_names import SeenNames
from agent.windows import Window
from tools.connection import Connection
from tools.known import Known
from tools.reading import Evidence
from tools.remedies.operation import Backups, ResizeHook
from tools.replicas import Walker, WalkOn

EventKind = Literal["status", "evidence", "claim", "plan", "action", "end"]


@dataclass(frozen=True)
class Target:
    """One server we may look at. URLs hold credentials: never print them."""

    name: str
    url: str = field(repr=False)
    remedy_url: str | None = field(default=None, repr=False)
    environment: str = "production"
    memory_limit: int | None = None
    """Bytes the server may use when maxmemory is 0 (a container limit), if configured."""
    match: dict[str, str] = field(default_factory=dict)
    """Alert labels that map an alert to this target."""
    walk_on: WalkOn = "primary"
    """Where walks over the keyspace go."""
    has_several_nodes: bool = False
    """Its URL leads to more than one."""
    part_of: str = ""
    """Targets of the same, such as a primary and its replicas, share their incidents."""


class Journal(Protocol):
    """Where an incident is kept. Every method is durable when it returns, and repeatable."""

    async def incident(self) -> Incident:
        """The whole incident as it stands, decisions of people included."""

    async def add_evidence(
        self,
        tool: str,
        args: dict[str, Any],
        reading: dict[str, Any],
        *,
        measured: bool,
        node: str,
        summary: str,
        taken_at: datetime | None = None,
        usage: Usage = NOTHING,
    ) -> Evidence:
        """Keep a reading under the next id (E1, E2, …) and publish an `evidence` event.

        `usage`: what it took; it is added to what the incident has cost.
        """

    async def evidence(self) -> list[Evidence]:
        """All evidence of the incident, oldest first, whole."""

    async def set_status(self, status: Status, ended_because: str = "") -> None:
        """Move the incident on and publish a `status` event."""

    async def set_runbooks(self, runbooks: list[RunbookMatch]) -> None:
        """Which runbooks were loaded, and why."""

    async def set_diagnosis(self, diagnosis: Diagnosis) -> None:
        """Keep the diagnosis; publish a `claim` event for each claim."""

    async def set_plan(self, plan: Plan) -> None:
        """Keep the plan (replaces proposed actions) and publish a `plan` event."""

    async def save_action(
        self,
        action: Action,
        *,
        intent: dict[str, Any] | None = None,
        outcome: dict[str, Any] | None = None,
    ) -> None:
        """Keep an action's status, outcome and comment; publish an `action` event.

        In the same transaction: `intent`, what is about to be done to the target (captured state,
        CLIENT ID), before it is done; `outcome`, what came of the open intent; and a page where
        the status is one that calls people.
        """

    async def add_usage(self, usage: Usage) -> None:
        """Add to what the incident has cost."""

    @property
    def ledger(self) -> Ledger:
        """Where the calls of a model are counted and kept; adds them to the usage, too."""

    async def intent(self, action_id: str) -> dict[str, Any] | None:
        """The intent without an outcome that an earlier run left, if any; `progress` with it."""

    async def note_progress(self, action_id: str, done: dict[str, Any]) -> str:
        """Between two batches: keep what was done so far, beside the open intent.

        A text: stop here, for this reason. Raises what the others raise where the run has lost
        its right to write.
        """

    async def unsettled(self) -> list[dict[str, Any]]:
        """Every open intent on this target, of any incident: connections that may still write."""

    async def page(self, reason: str) -> None:
        """Call people now: kept with the incident until it is sent."""

    async def freezes(self) -> list[Window]:
        """What people froze on this target, beside what is configured."""

    async def earlier(self) -> Earlier:
        """What came of earlier plans on this target, and verdicts: recent ones, bounded."""

    async def approve_automatically(
        self, action: Action, cause: str, limits: AutoLimits
    ) -> str | None:
        """The policy's own approval, within its limits; a text: why not."""

    async def event(self, kind: EventKind, data: dict[str, Any]) -> None:
        """Publish something for whoever watches."""


class Reasoner(Protocol):
    """Finds the cause. `rules` and `openai` are the two implementations."""

    name: str

    async def investigate(
        self, case: "Case", previous: DiagnosisDraft | None = None, mismatches: Sequence[str] = ()
    ) -> DiagnosisDraft:
        """Ask for more evidence through the case, and submit a diagnosis.

        `previous` and `mismatches`: the submission that failed the evidence check, and how.
        Raises ReasonerUnavailable when it cannot (endpoint down, budget spent); the rules stand.
        """


class ReasonerUnavailable(Exception):
    """The reasoner could not finish; the text says why, for `ended_because` and the report."""


class Case(Protocol):
    """What a reasoner sees: the alert, the runbooks, the evidence; and how to ask for more."""

    incident: Incident
    runbooks: Library

    @property
    def evidence(self) -> list[Evidence]:
        """What was seen so far, oldest first."""

    async def look(self, tool: str, arguments: dict[str, Any]) -> Evidence:
        """Run a read-only tool and keep what it saw. Repeated looks are answered from evidence.

        Raises KeyError for an unknown tool, pydantic.ValidationError for bad arguments.
        """

    @property
    def ledger(self) -> Ledger:
        """Where the calls of a model are counted and kept."""


@dataclass(frozen=True)
class Context:
    """Handed to every step of the graph. Nothing in it is written to a checkpoint."""

    target: Target
    connection: Connection
    """The diagnosis identity."""
    open_for_remedies: Callable[[], Awaitable[Connection]]
    """The executor's connection: never retries, never reconnects. Raises CommandFailure."""
    journal: Journal
    library: Library
    """All runbooks, loaded."""
    rules: Reasoner
    """The rule-based reasoner: it always runs."""
    model: Reasoner | None = None
    """The `openai` reasoner, if a model is configured."""
    policy: Policy = BUILT_IN
    """Who may approve what."""
    backups: Backups | None = None
    """Where a remedy keeps what it removes; None: it may not remove."""
    resize_hook: ResizeHook | None = None
    """The user's own way to resize this target, if one is configured."""
    known: Known | None = None
    """What is known of the target besides what can be seen of it."""
    stop_reason: Callable[[], str] = lambda: ""
    """Why a remedy of many batches is to end after its present one; empty: it goes on."""
    telemetry: Telemetry = SILENT
    """Told what the run does."""
    looking: set[Task[Evidence]] = field(default_factory=set, repr=False)
    """Looks under way. They outlive whoever asked for them: whoever closes the connection ends them
    first, or they would take its end for a finding."""
    names: SeenNames = field(default_factory=SeenNames, repr=False)
    """What the run has shown redacted, by its true name."""
    walker: Walker = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "walker", Walker(self.connection, self.target.walk_on))
