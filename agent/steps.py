"""The steps of the graph. Each takes the state and the context and returns what changed.

Evidence, diagnosis, plan and decisions live in the journal; the state holds only what the next
step needs. A finished step may run again after a crash, so every step is repeatable.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypedDict

from langgraph.runtime import Runtime
from langgraph.types import interrupt

from agent import automatic, executor, rollback, verification
from agent.arbitration import arbitrate, is_disputed
from agent.case import CaseFile
from agent.changes_told import KEYS, SERVER, told_of_changes
from agent.claims import check
from agent.context import Context, ReasonerUnavailable
from agent.incident import Action, Culprit, Diagnosis, DiagnosisDraft, Incident, Usage
from agent.nodes_seen import told_of_nodes
from agent.planning import propose as propose_plan
from agent.policy import waits
from agent.precedents import NODE, TOOL
from agent.redaction import redact, redact_tree
from agent.relook import still_firing
from agent.rules import rank, said
from agent.runbook import Library
from agent.runbook_library import match
from agent.signals import detect
from agent.standing import standing_of
from agent.thresholds import crossings
from tools.changes import ServerChangesArguments
from tools.reading import Evidence

log = logging.getLogger(__name__)
MOST_CORRECTIONS = 2
"""How often a submission that fails the evidence check goes back to the model."""
MOST_SHOWN = 5
"""Mismatches named in the reason why a submission was not used."""


class State(TypedDict, total=False):
    """What a checkpoint holds: ids and drafts, never evidence."""

    runbooks: list[str]
    rules_draft: dict[str, Any]
    model_draft: dict[str, Any] | None
    model_failure: str
    mismatches: list[str]
    corrections: int
    action: str | None
    action_status: str
    waiting: bool


Update = dict[str, Any]
On = Runtime[Context]


async def load_runbook(state: State, runtime: On) -> Update:
    """Pick the runbooks that match the alert, and say why."""
    context = runtime.context
    incident = await context.journal.incident()
    await context.journal.set_status("investigating")
    matches = match(context.library, incident.alerts, incident.question)
    await context.journal.set_runbooks(matches)
    return {"runbooks": [m.id for m in matches], "corrections": 0, "mismatches": []}


async def observe(state: State, runtime: On) -> Update:
    """Run the baseline tools of those runbooks, concurrently."""
    case = await _case(state, runtime.context)
    started = time.monotonic()
    baseline = dict.fromkeys(t for book in case.runbooks.runbooks for t in book.front.baseline)
    if runtime.context.target.has_several_nodes:
        baseline["nodes"] = None
    if await _has_baselines(runtime.context):
        baseline |= {SERVER: None, KEYS: None}
    await asyncio.gather(*(case.look(tool, {}) for tool in baseline))
    await runtime.context.journal.add_usage(Usage(seconds=time.monotonic() - started))
    await _remember(runtime.context)
    return {}


async def _has_baselines(context: Context) -> bool:
    """Whether anything was kept of healthy times: without, a look for what changed costs only."""
    if context.known is None:
        return False
    known = await context.known(SERVER, context.connection.node)
    kept = ServerChangesArguments.model_validate(known).baselines
    return kept is not None and bool(kept.servers or kept.keyspaces)


async def _remember(context: Context) -> None:
    """What came of earlier plans here is evidence, once."""
    earlier = await context.journal.earlier()
    if not earlier or any(seen.tool == TOOL for seen in await context.journal.evidence()):
        return
    await context.journal.add_evidence(
        TOOL,
        {},
        redact_tree(earlier.model_dump(mode="json")),
        measured=True,
        node=NODE,
        summary=redact(earlier.summary()),
    )


async def detect_signals(state: State, runtime: On) -> Update:
    """From evidence to named signals and crossed thresholds; recomputed wherever needed."""
    evidence = await runtime.context.journal.evidence()
    signals = detect(evidence)
    crossed = crossings(_loaded(state, runtime.context).runbooks, evidence)
    await runtime.context.journal.event(
        "status",
        {
            "status": "investigating",
            "signals": sorted(signals.fired),
            "not_measured": sorted(signals.not_measured),
            "thresholds": [f"{c.severity}: {c.because}" for c in crossed if c.state == "fired"],
        },
    )
    return {}


async def investigate(state: State, runtime: On) -> Update:
    """The rules always reason; the model, if there is one, reasons too."""
    context = runtime.context
    case = await _case(state, context)
    started = time.monotonic()
    update: Update = {}
    if not state.get("rules_draft"):
        update["rules_draft"] = (await context.rules.investigate(case)).model_dump(mode="json")
    if context.model is not None:
        previous = state.get("model_draft")
        try:
            draft = await context.model.investigate(
                case,
                DiagnosisDraft.model_validate(previous) if previous else None,
                state.get("mismatches", []),
            )
            update |= {"model_draft": draft.model_dump(mode="json"), "model_failure": ""}
        except ReasonerUnavailable as unavailable:
            update |= {"model_draft": None, "model_failure": str(unavailable)}
        except Exception as error:
            # Whatever a reply broke in us: the rules have an answer. Where it was the journal that
            # failed, or the lease that was lost, the next write says so.
            log.exception("the model's reasoner failed")
            update |= {"model_draft": None, "model_failure": f"a fault of ours, {_named(error)}"}
    await context.journal.add_usage(Usage(seconds=time.monotonic() - started))
    return update


async def verify_claims(state: State, runtime: On) -> Update:
    """Recompute every number of both submissions, then arbitrate between them."""
    context = runtime.context
    evidence = await context.journal.evidence()
    rules = _rules_checked(
        DiagnosisDraft.model_validate(state["rules_draft"]), evidence, context.library
    )
    context.telemetry.checked("rules", held=isinstance(rules, Diagnosis))
    if not isinstance(rules, Diagnosis):
        # Ours to fix, and never a reason to leave the incident without an answer.
        rules = _unknown("the rules' own claims failed the evidence check: " + _few(rules))
    model: Diagnosis | None = None
    failure = state.get("model_failure", "")
    if draft := state.get("model_draft"):
        checked = _model_checked(draft, evidence, context.library)
        context.telemetry.checked("model", held=isinstance(checked, Diagnosis))
        if isinstance(checked, Diagnosis):
            model = checked
        elif state["corrections"] < MOST_CORRECTIONS:
            return {"mismatches": checked, "corrections": state["corrections"] + 1}
        else:
            failure = "its claims failed the evidence check: " + _few(checked)
    incident = await context.journal.incident()
    signals = detect(evidence)
    standing = standing_of(
        model.root_cause if model else "",
        rules.root_cause,
        signals,
        rank(signals, context.library, said(incident)),
        context.library,
    )
    diagnosis = told_of_nodes(arbitrate(rules, model, standing, failure), evidence)
    diagnosis = told_of_changes(diagnosis, evidence)
    await context.journal.set_diagnosis(diagnosis)
    return {"mismatches": []}


def _rules_checked(
    draft: DiagnosisDraft, evidence: Sequence[Evidence], library: Library
) -> Diagnosis | list[str]:
    """The rules' diagnosis, or what does not hold.

    A signal may name a parameter that CONFIG was not allowed to show: the cause stands without it.
    """
    checked = check(draft, evidence, library)
    if isinstance(checked, Diagnosis) or draft.culprit.kind != "config":
        return checked
    return check(draft.model_copy(update={"culprit": Culprit()}), evidence, library)


def _model_checked(
    draft: dict[str, Any], evidence: Sequence[Evidence], library: Library
) -> Diagnosis | list[str]:
    """The model's diagnosis, or what does not hold; also of a draft that breaks the check."""
    try:
        return check(DiagnosisDraft.model_validate(draft), evidence, library)
    except Exception as error:
        log.exception("the evidence check failed")
        return [f"the evidence check could not be made: a fault of ours, {_named(error)}"]


def _named(error: Exception) -> str:
    return f"{type(error).__name__}; see the log"


def does_evidence_hold(state: State) -> Literal["investigate", "propose"]:
    """A failed evidence check goes back to the reasoner, with the exact mismatches."""
    return "investigate" if state.get("mismatches") else "propose"


async def propose(state: State, runtime: On) -> Update:
    """Typed remedies, least risk first, and what keeps it from coming back."""
    context = runtime.context
    incident = await context.journal.incident()
    if any(action.status != "proposed" for action in incident.plan.actions):
        return {}  # already decided upon: this step ran before a crash
    if incident.diagnosis is None:
        raise RuntimeError("propose needs a diagnosis: verify_claims did not keep one")
    plan = await propose_plan(
        context, incident, incident.diagnosis, await context.journal.evidence()
    )
    await context.journal.set_plan(plan)
    return {}


async def gate(state: State, runtime: On) -> Update:
    """Wait for people. The interrupt carries no decision: each resume re-reads them."""
    journal = runtime.context.journal
    await automatic.consider(runtime.context)
    incident = await journal.incident()
    approved, waiting = _decisions(incident)
    if approved is None and waiting:
        if incident.status != "awaiting_approval":
            await journal.set_status("awaiting_approval")
        interrupt({"waiting_for": [action.id for action in waiting]})
        approved, waiting = _decisions(await journal.incident())
    return {"action": approved.id if approved else None, "waiting": bool(waiting)}


def is_anything_approved(state: State) -> Literal["apply", "gate", "report"]:
    """Apply what is approved; wait while something is open; else finish."""
    if state.get("action"):
        return "apply"
    return "gate" if state.get("waiting") else "report"


async def apply(state: State, runtime: On) -> Update:
    """Re-check the preconditions, capture the undo, write once."""
    action = await _action(state, runtime.context)
    await runtime.context.journal.set_status("remediating")
    action = await executor.apply(runtime.context, action)
    return {"action": action.id, "action_status": action.status}


def was_it_applied(state: State) -> Literal["verify_effect", "roll_back", "gate"]:
    """Only what was applied is verified; a roll-back that a crash cut short goes on."""
    if state["action_status"] == "rolling_back":
        return "roll_back"
    return "verify_effect" if state["action_status"] == "applied" else "gate"


async def verify_effect(state: State, runtime: On) -> Update:
    """Look at the live server: did it help?"""
    await runtime.context.journal.set_status("verifying")
    action = await verification.verify(runtime.context, await _action(state, runtime.context))
    return {"action": None if action.status == "verified" else action.id}


def did_it_help(state: State) -> Literal["gate", "roll_back"]:
    """What did not help is undone."""
    return "roll_back" if state.get("action") else "gate"


async def roll_back(state: State, runtime: On) -> Update:
    """Put back what was captured."""
    await rollback.roll_back(runtime.context, await _action(state, runtime.context))
    return {"action": None}


async def report(state: State, runtime: On) -> Update:
    """End with a status and a reason."""
    journal = runtime.context.journal
    incident = await journal.incident()
    status, because = conclude(incident)
    if incident.status != status or not incident.ended_because:
        await journal.set_status(status, because)
    await journal.event("end", {"status": status, "ended_because": because})
    return {}


def conclude(incident: Incident) -> tuple[Literal["resolved", "needs_human"], str]:
    """The last status of an incident whose every action is decided, and why."""
    diagnosis = incident.diagnosis
    if diagnosis is not None and not diagnosis.is_incident:
        if is_disputed(diagnosis):
            return "needs_human", "the rules found no incident, the model one: a person decides"
        return "resolved", f"not an incident: {diagnosis.title}"
    ends = [action.status for action in incident.plan.actions if action.executable]
    # A lapse beside something verified is no failure: the first action may have cured what the
    # second was for.
    fine = {"verified", "rejected", "lapsed"} if "verified" in ends else {"rejected", "lapsed"}
    if bad := sorted(set(ends) - fine):
        return "needs_human", f"an action ended as {', '.join(bad)}"
    if "verified" in ends:
        if still := still_firing(incident):
            return "needs_human", f"applied and verified, but its alert still fires: {still}"
        return "resolved", "an approved action was applied and verified on the live server"
    if ends and any(action.dry_run for action in incident.plan.actions):
        return "needs_human", "dry run: nothing is written from here; each action says what it saw"
    if ends:
        return "needs_human", f"every action ended as {' or '.join(sorted(set(ends)))}"
    if diagnosis is None or diagnosis.root_cause == "unknown":
        return "needs_human", "the cause is unknown: a person has to look"
    return "needs_human", "nothing that may be executed from here was found to help"


def _decisions(incident: Incident) -> tuple[Action | None, list[Action]]:
    """The first action to work on, and those still waiting for people."""
    actions = [action for action in incident.plan.actions if action.executable]
    at_work = ("approved", "applying", "applied", "rolling_back")
    now = datetime.now(UTC)
    later = [action for action in actions if waits(action, now)]
    # What was approved together is applied in order: behind one that waits, the others wait.
    behind = {action.batch for action in later} - {""}
    ready = (
        action
        for action in actions
        if action.status in at_work
        and (action.status != "approved" or (action not in later and action.batch not in behind))
    )
    approved = next(ready, None)
    return approved, [action for action in actions if action.status == "proposed"] + later


async def _action(state: State, context: Context) -> Action:
    incident = await context.journal.incident()
    return next(action for action in incident.plan.actions if action.id == state["action"])


def _loaded(state: State, context: Context) -> Library:
    chosen = set(state.get("runbooks", []))
    return Library(runbooks=[book for book in context.library.runbooks if book.id in chosen])


async def _case(state: State, context: Context) -> CaseFile:
    journal = context.journal
    books = _loaded(state, context)
    return CaseFile(context, await journal.incident(), books, await journal.evidence())


def _few(mismatches: Sequence[str]) -> str:
    more = len(mismatches) - MOST_SHOWN
    shown = "; ".join(mismatches[:MOST_SHOWN])
    return f"{shown}; and {more} more" if more > 0 else shown


def _unknown(reason: str) -> Diagnosis:
    return Diagnosis(
        root_cause="unknown",
        title="Unknown",
        is_incident=True,
        confidence=0.0,
        summary=f"The cause is unknown: {reason}.",
        escalate=True,
    )
