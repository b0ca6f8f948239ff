"""The words of the trade: Alert, Incident, Diagnosis, Plan, Action.

These are the JSON of the HTTP API, of `investigate --json` and of the store.
"""

import hashlib
import json
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Status = Literal[
    "queued", "investigating", "awaiting_approval", "remediating", "verifying",
    "resolved", "needs_human", "closed", "failed",
]  # fmt: skip
Severity = Literal["info", "warning", "critical"]
CulpritKind = Literal["key", "prefix", "client", "config", "replica", "stream", "host", "none"]
FactOperation = Literal["value", "ratio", "difference", "sum", "rate"]
Risk = Literal["R0", "R1", "R2", "R3", "R4"]
Role = Literal["viewer", "responder", "approver", "admin"]
ActionStatus = Literal[
    "proposed", "approved", "rejected", "lapsed", "applying", "applied", "verified",
    "rolling_back", "rolled_back", "rollback_failed", "outcome_unknown", "failed",
]  # fmt: skip
CALLS_PEOPLE: frozenset[str] = frozenset({"rollback_failed", "outcome_unknown"})
"""Statuses of an action that leave a server as nobody chose: they page."""
UNFINISHED: frozenset[str] = frozenset({"queued", "investigating", "remediating", "verifying"})
"""Statuses in which there is work for `advance`; an approval adds awaiting_approval to them."""


class Words(BaseModel):
    """Base: unknown fields are errors, so that a contract cannot drift unnoticed."""

    model_config = ConfigDict(extra="forbid")


class Alert(Words):
    """One alert, normalised from any source."""

    source: str
    name: str
    status: Literal["firing", "resolved"] = "firing"
    fingerprint: str
    starts_at: datetime
    ends_at: datetime | None = None
    severity: Severity = "warning"
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    target: str = ""
    """Which configured one it is about, once that is known."""
    flaps: int = 0
    """How often it had been over within the hour before it began."""
    silenced_until: datetime | None = None
    """Nothing was started for it, and nothing is before then."""


class Culprit(Words):
    """What did it. A prefix ends with its separator (`session:`); a client is its name, else its
    address; config is the parameter.
    """  # noqa: D205

    kind: CulpritKind = "none"
    name: str = ""


class FactDraft(Words):
    """A number to be computed from evidence, as a reasoner asks for it.

    `of` holds dotted paths into the reading (`prefixes.0.bytes`); a path may name another piece
    of evidence first (`E3:used_memory`). value: [p]; ratio: [a, b] = a / b; difference: [a, b] =
    a - b; sum: [p, …]; rate: [last, first, seconds] = (last - first) / seconds.
    """

    name: str
    evidence: str
    op: FactOperation = "value"
    of: list[str] = Field(min_length=1, max_length=12)
    unit: str = ""
    """bytes | ratio (printed as %) | seconds | milliseconds | microseconds | bytes_per_second |
    per_second | count | text | empty. How the number is printed, not how it is computed."""


class Fact(FactDraft):
    """The same, computed by code."""

    value: float | int | str | bool


class ClaimDraft(Words):
    """A sentence with `{fact_name}` in the places of numbers and names."""

    text: str = Field(max_length=600)
    facts: list[FactDraft] = Field(min_length=1, max_length=12)


class Claim(Words):
    """A sentence with the numbers put in, and where each came from."""

    text: str
    facts: list[Fact]


class Alternative(Words):
    """A cause considered and not chosen."""

    root_cause: str
    confidence: float = Field(ge=0, le=1)
    why_not: str


class Hypothesis(Words):
    """What might be behind an `unknown`; never executable."""

    title: str
    claims: list[Claim]


class Overruled(Words):
    """The diagnosis that lost the arbitration, and why."""

    reasoner: str
    root_cause: str
    confidence: float
    reason: str


class Diagnosis(Words):
    """What is wrong, how sure, and why."""

    root_cause: str
    title: str
    is_incident: bool
    confidence: float = Field(ge=0, le=1)
    summary: str
    contributing: list[str] = Field(default_factory=list)
    culprit: Culprit = Field(default_factory=Culprit)
    claims: list[Claim] = Field(default_factory=list)
    alternatives: list[Alternative] = Field(default_factory=list)
    not_measured: list[str] = Field(default_factory=list)
    escalate: bool = False
    hypothesis: Hypothesis | None = None
    reasoner: str = "rules"
    overruled: Overruled | None = None

    @property
    def grounds(self) -> list[Claim]:
        """The claims that it rests on."""
        return [claim for claim in self.claims if claim not in self.changes]

    @property
    def changes(self) -> list[Claim]:
        """What changed since healthy times (`agent/changes_told.py`): it proves nothing."""
        return [c for c in self.claims if any(f.name.startswith("changed_") for f in c.facts)]


class HypothesisDraft(Words):
    """What a reasoner suspects behind an `unknown`."""

    title: str = Field(max_length=200)
    claims: list[ClaimDraft] = Field(default_factory=list, max_length=8)


class DiagnosisDraft(Words):
    """A diagnosis as a reasoner submits it: claims with facts still to be computed.

    `agent/claims.py` turns it into a Diagnosis or says exactly what does not hold.
    """

    root_cause: str
    confidence: float = Field(ge=0, le=1)
    culprit: Culprit = Field(default_factory=Culprit)
    contributing: list[str] = Field(default_factory=list, max_length=8)
    claims: list[ClaimDraft] = Field(default_factory=list, max_length=12)
    alternatives: list[Alternative] = Field(default_factory=list, max_length=8)
    not_measured: list[str] = Field(default_factory=list, max_length=40)
    escalate: bool = False
    hypothesis: HypothesisDraft | None = None
    reasoner: str = "rules"


class Precondition(Words):
    """What must hold for an action to be applied; re-checked immediately before."""

    text: str
    holds: bool | None = None
    """None: not measured (counts as not holding at apply time)."""
    because: str = ""


AUTOMATIC: Literal["automatic"] = "automatic"
"""The role of the policy's own approvals; no token can have it."""


class Approval(Words):
    """One person's yes, or the policy's own (role `automatic`)."""

    by: str
    role: Role | Literal["automatic"]
    at: datetime
    comment: str = ""
    break_glass: bool = False
    """An admin alone, past the number of approvals, freezes and windows; everybody was paged."""


class Action(Words):
    """One step of the plan: typed, previewed, gated."""

    id: str
    """A1, A2, …"""
    fingerprint: str
    kind: str
    """A remedy of tools/remedies, e.g. `set_config`."""
    title: str
    arguments: dict[str, Any]
    risk: Risk
    executable: bool = True
    """False: a proposal or advice that a person carries out; never applied by the service."""
    relief: Literal["immediate", "long_term"] = "immediate"
    commands: list[list[str]] = Field(default_factory=list)
    artefact: str = ""
    """The same change for a server that is configured elsewhere, or text to hand over."""
    preconditions: list[Precondition] = Field(default_factory=list)
    predicted_effect: str = ""
    verification: str = ""
    rollback: str = ""
    never_touches: str = ""
    blast_radius: str = ""
    """The most that can go wrong, with numbers, and where it stops by itself."""
    evidence: list[str] = Field(default_factory=list)
    """Ids of the stored evidence it rests on."""
    approvals_required: int = 1
    approvals: list[Approval] = Field(default_factory=list)
    rejected_by: str | None = None
    comment: str = ""
    """Why it lapsed, was rejected, failed or was rolled back, or what it waits for."""
    notes: list[str] = Field(default_factory=list)
    """What whoever decides should know: what came of it before, why it is not automatic."""
    dry_run: bool = False
    """Planned where nothing may be written: it is checked and shown, and never applied."""
    expires_at: datetime | None = None
    not_before: datetime | None = None
    """Approved, and waiting for a freeze to end or a maintenance window to begin."""
    batch: str = ""
    """Approved together with the others of this name: in order, and only while all go well."""
    stop_requested: str = ""
    """Who asked it to stop after its present batch, and why."""
    outcome: dict[str, Any] = Field(default_factory=dict)
    """Before and after, as measured: numbers and names of ours, never a value. See OUTCOME."""
    status: ActionStatus = "proposed"

    @property
    def handed_over(self) -> str:
        """The artefact, where a person is the one to use it: nothing was or could be sent."""
        unsent = self.status in ("failed", "rolled_back", "rollback_failed", "outcome_unknown")
        return self.artefact if unsent or not (self.executable and self.commands) else ""


OUTCOME: dict[str, str] = {
    "identity": "TargetIdentity of the server that was written to",
    "before": "what the remedy captured: old values and its own numbers, for the undo",
    "done": "what the remedy says it did: counts, values, stopped_because; of an interrupted one "
    "what it had noted by then, which is at least that much",
    "baseline": "{metric: number | null}: the server in the seconds before the first write",
    "after": "{metric: number | null}: the same metrics over the hold; null: not measured",
    "series": "{columns: [seconds, metric, ...], rows: [[number | null, ...], ...]}: at most 60 "
    "rows, oldest first; seconds: 0 is the last look before the first write, before it negative",
    "yardstick": "what verification and undo judge by; not meant to be shown",
    "held_seconds": "how long the server was watched after the write",
    "remedy": "{name: number | text}: what the remedy itself measured at the end of the hold",
    "regressions": "[{metric, before, after, because}]: what got worse by it; [] : nothing",
    "signals": "{cleared, still, not_measured: [{name, because, evidence: [id]}]}: signals of the "
    "cause and thresholds of its alert, looked at again after the hold. A threshold's name is "
    "`alert <path>`; `because` holds the numbers: `memory_info.pressure: 93.0 % -> 61.0 %`",
    "evidence": "ids of that second look",
    "expected_by": "ISO time by which a remedy with a later effect predicts it",
    "undone": "what the remedy says it put back; nothing_to_put_back: why there is nothing",
    "undo": "{verified: bool | null, because, after: {metric: number | null}}",
}
"""What `Action.outcome` may hold, each from the step that knows it on. The metrics, their units and
which direction is worse: `agent/watched_metrics.py`, METRICS."""


class Plan(Words):
    """What to do: actions least risk first, and what keeps it from coming back."""

    actions: list[Action] = Field(default_factory=list)
    prevention: list[str] = Field(default_factory=list)
    checklist: list["ChecklistItem"] = Field(default_factory=list)


class ChecklistItem(Words):
    """One item of the runbook's production checklist, evaluated against the live server."""

    runbook: str
    text: str
    result: Literal["pass", "fail", "not_measured"]
    because: str
    evidence: list[str] = Field(default_factory=list)


class EvidenceSummary(Words):
    """Evidence without its reading."""

    id: str
    tool: str
    args: dict[str, Any]
    node: str
    summary: str
    taken_at: datetime


class RunbookMatch(Words):
    """A runbook that was loaded, and why."""

    id: str
    why: str


class Usage(Words):
    """What an investigation, or one call to a model, cost."""

    llm_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Of the input tokens, those the endpoint says it served from its prompt cache."""
    dollars: float | None = None
    """By the configured prices; None where the model has none."""
    tool_calls: int = 0
    seconds: float = 0.0

    def plus(self, other: "Usage") -> "Usage":
        """Both together. Dollars are those of the calls that have a price."""
        parts = (self.model_dump(), other.model_dump())
        return Usage(
            **{
                name: sum(part[name] for part in parts if part[name] is not None)
                if any(part[name] is not None for part in parts)
                else None
                for name in Usage.model_fields
            }
        )


NOTHING = Usage()


class Incident(Words):
    """The whole incident, as the API returns it."""

    id: str
    status: Status
    severity: Severity
    title: str
    target: str
    question: str = ""
    alerts: list[Alert] = Field(default_factory=list)
    """The one that opened it, and the newest."""
    more_alerts: int = 0
    """How many there are between these."""
    opened_at: datetime
    updated_at: datetime
    attempt: int = 1
    diagnosis: Diagnosis | None = None
    plan: Plan = Field(default_factory=Plan)
    evidence: list[EvidenceSummary] = Field(default_factory=list)
    runbooks: list[RunbookMatch] = Field(default_factory=list)
    usage: Usage = Field(default_factory=Usage)
    ended_because: str = ""
    follows: str = ""
    """The incident that was over when its alert fired again."""
    silenced_by: str = ""
    """Who wanted to hear nothing of the alert that opened it."""
    silenced_until: datetime | None = None


class TargetIdentity(Words):
    """Which process, in which role, with which data: what an approval binds to."""

    run_id: str = "unknown"
    role: str = "unknown"
    replication_id: str = "unknown"


def fingerprint(
    kind: str, arguments: dict[str, Any], identity: TargetIdentity, evidence: list[str]
) -> str:
    """SHA-256 over kind, arguments, target identity and evidence ids, hex."""
    content = {
        "kind": kind,
        "arguments": arguments,
        "target": identity.model_dump(),
        "evidence": sorted(evidence),
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
