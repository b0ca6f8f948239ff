"""From a diagnosis to a plan: typed remedies with numbers, least risk first."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from agent.arguments import Filled, Findings, fill
from agent.checklist import evaluate
from agent.context import Context
from agent.contraindications import is_harmful
from agent.incident import (
    Action,
    Diagnosis,
    Incident,
    Plan,
    Precondition,
    TargetIdentity,
    fingerprint,
)
from agent.policy import approvals_required
from agent.precedents import notes_on
from agent.prevention import render_prevention
from agent.redaction import redact_tree
from agent.runbook import ProposedRemedy, Runbook
from agent.work import identify, missing_for
from tools.connection import CommandFailure
from tools.reading import Evidence
from tools.remedies.artefacts import artefact
from tools.remedies.catalogue import REMEDIES
from tools.remedies.remedy import Check, Preview, Remedy
from tools.remedies.vitals import Vitals, read_vitals

MOST_ACTIONS = 20
CARRIED_OUT_BY = {"instance_resize": "resize_instance"}
"""Proposals that something of the user's own may be able to execute."""


async def propose(
    context: Context, incident: Incident, diagnosis: Diagnosis, evidence: list[Evidence]
) -> Plan:
    """The plan for a diagnosis: what to do, what keeps it from coming back, the checklist."""
    books = _books(context, incident, diagnosis)
    known = list(evidence)
    identity, vitals = await _who_and_how(context)
    findings = Findings(context, diagnosis, known, vitals)
    found: list[Action] = []
    if diagnosis.is_incident and diagnosis.root_cause != "unknown":
        found = await _actions(findings, books, identity)
    ordered = sorted(found, key=lambda action: _place(action, diagnosis))
    earlier = await context.journal.earlier()
    return Plan(
        actions=[
            action.model_copy(update={"id": f"A{place}", "notes": notes_on(action, earlier)})
            for place, action in enumerate(ordered[:MOST_ACTIONS], 1)
        ],
        prevention=render_prevention(books, known, _causes(diagnosis)),
        checklist=evaluate(books, known),
    )


def _place(action: Action, diagnosis: Diagnosis) -> tuple[bool, str, bool, bool]:
    """Relief first, least risk first; of several settings the one that did it."""
    culprit = action.arguments.get("parameter") == diagnosis.culprit.name
    return (action.relief != "immediate", action.risk, not action.executable, not culprit)


async def _actions(
    findings: Findings, books: Sequence[Runbook], identity: TargetIdentity
) -> list[Action]:
    actions: dict[str, Action] = {}
    asked = set()
    for cause, proposed in _options(findings, books):
        # Looked at twice, what grows has two sizes: the same remedy would be there twice.
        if (same := (cause, proposed.kind, str(sorted(proposed.args.items())))) in asked:
            continue
        asked.add(same)
        for action in await _best(findings, cause, proposed, identity):
            # The same change may be asked for by several runbooks: the first one says when.
            actions.setdefault(f"{action.kind} {sorted(action.arguments.items())}", action)
    return list(actions.values())


async def _best(
    findings: Findings, cause: str, proposed: ProposedRemedy, identity: TargetIdentity
) -> list[Action]:
    """What carries the remedy out, if it can be; else the remedy as the runbook names it."""
    made: list[Action] = []
    for kind in (CARRIED_OUT_BY.get(proposed.kind), proposed.kind):
        if kind is not None and not made:
            chosen = proposed.model_copy(update={"kind": kind})
            for filled in await fill(findings, cause, chosen):
                action = await _action(findings, chosen, filled, identity)
                made += [action] if action is not None else []
    return made


def _options(findings: Findings, books: Sequence[Runbook]) -> Iterator[tuple[str, ProposedRemedy]]:
    """Remedies of the cause, of what contributes, and of the matched runbooks themselves."""
    catalogued = findings.context.library.causes()
    causes = _causes(findings.diagnosis)
    for cause in causes:
        for remedy in catalogued[cause].remedies if cause in catalogued else []:
            yield cause, ProposedRemedy(kind=remedy) if isinstance(remedy, str) else remedy
    for book in books:
        for remedy in book.front.remedies:
            if not remedy.for_causes or set(remedy.for_causes) & set(causes):
                yield findings.diagnosis.root_cause, remedy


async def _action(
    findings: Findings, proposed: ProposedRemedy, filled: Filled, identity: TargetIdentity
) -> Action | None:
    """The action, previewed; None where it would do harm or cannot be made."""
    remedy = REMEDIES[proposed.kind]
    try:
        args = remedy.args.model_validate(filled.arguments)
    except ValidationError:
        return None
    # The look at the server is with the true names, what is kept and shown with redacted ones.
    arguments = redact_tree(args.model_dump(mode="json", exclude_defaults=True))
    if is_harmful(findings.diagnosis.root_cause, proposed.kind, arguments):
        return None
    try:
        preview = await remedy.preview(findings.context.connection, args)
        checks = await remedy.preconditions(findings.context.connection, args)
    except CommandFailure as failure:
        return _by_hand(remedy, arguments, str(failure), identity)
    if any(check.holds is False for check in checks):
        return None  # it could not be applied, and to hand it to a person is no better
    rests_on = sorted({*filled.evidence, *_cited(findings.diagnosis)})
    return _previewed(findings, remedy, arguments, preview, checks).model_copy(
        update={
            "fingerprint": fingerprint(remedy.kind, arguments, identity, rests_on),
            "relief": proposed.relief,
            "evidence": rests_on,
        }
    )


def _previewed(
    findings: Findings,
    remedy: Remedy[Any],
    arguments: dict[str, Any],
    preview: Preview,
    checks: Sequence[Check],
) -> Action:
    preview = Preview.model_validate(redact_tree(preview.model_dump()))
    checks = [Check.model_validate(redact_tree(check.model_dump())) for check in checks]
    return Action(
        id="A0",
        fingerprint="",
        kind=remedy.kind,
        title=preview.title,
        arguments=arguments,
        risk=remedy.risk,
        executable=remedy.executable and not missing_for(remedy, findings.context),
        commands=preview.commands,
        artefact=preview.artefact,
        preconditions=[Precondition(**check.model_dump()) for check in checks],
        predicted_effect=preview.predicted_effect,
        verification=preview.verification,
        rollback=preview.rollback,
        never_touches=preview.never_touches,
        blast_radius=preview.blast_radius,
        approvals_required=approvals_required(
            remedy.risk, findings.context.target.environment, findings.context.policy
        ),
        dry_run=findings.context.policy.dry_run,
        expires_at=datetime.now(UTC) + findings.context.policy.expires,
    )


def _by_hand(
    remedy: Remedy[Any], arguments: dict[str, Any], because: str, identity: TargetIdentity
) -> Action | None:
    """A configuration change stays useful where we may not even read the present value."""
    if remedy.kind != "set_config":
        return None
    parameter, value = arguments["parameter"], arguments["value"]
    return Action(
        id="A0",
        fingerprint=fingerprint(remedy.kind, arguments, identity, []),
        kind=remedy.kind,
        title=f"Set {parameter} to {value}",
        arguments=arguments,
        risk=remedy.risk,
        executable=False,
        artefact=artefact(parameter, value),
        comment=f"cannot be checked from here: {because}",
    )


async def _who_and_how(context: Context) -> tuple[TargetIdentity, Vitals]:
    try:
        return await identify(context.connection), await read_vitals(context.connection)
    except CommandFailure:
        # Nothing that needs either becomes executable: at apply time the identity would differ.
        return TargetIdentity(), Vitals()


def _causes(diagnosis: Diagnosis) -> list[str]:
    return list(dict.fromkeys([diagnosis.root_cause, *diagnosis.contributing]))


def _books(context: Context, incident: Incident, diagnosis: Diagnosis) -> list[Runbook]:
    """The matched runbooks, and those that know the cause, the latter first."""
    matched = {match.id for match in incident.runbooks}
    causes = set(_causes(diagnosis))
    books = context.library.runbooks
    about = [book for book in books if causes & {cause.id for cause in book.front.causes}]
    return about + [book for book in books if book.id in matched and book not in about]


def _cited(diagnosis: Diagnosis) -> set[str]:
    return {fact.evidence for claim in diagnosis.grounds for fact in claim.facts}
