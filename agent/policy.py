"""Who may approve what. A table: the first rule that matches decides, and no match refuses."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from agent.incident import AUTOMATIC, Action, Approval, Risk, Role
from agent.windows import Window, joined_end

ROLES: tuple[Role, ...] = ("viewer", "responder", "approver", "admin")
"""Each may what those before it may."""
NOT_PRODUCTION = frozenset({"staging", "test", "testing", "development", "dev", "demo", "local"})
"""Any other name, also one nobody thought of, is production."""
MAY_BE_AUTOMATIC = frozenset({"R0", "R1"})
"""Whatever else a table says: only these are ever approved by it alone."""
MOST_HOLDS = 20
"""Freezes and windows that are followed one after another to say when it will be possible."""


@dataclass(frozen=True)
class Rule:
    """What it takes to approve such an action there."""

    risks: frozenset[str]
    production: bool
    role: Role
    approvals: int
    """By different people."""
    environment: str | None = None
    """Only where the environment has this name."""
    only_in_window: bool = False
    """Applied in a maintenance window only."""
    auto: bool = False
    """The policy itself may approve, within its limits."""

    def covers(self, risk: str, environment: str) -> bool:
        """Is it about such an action there?"""
        named = self.environment is None or self.environment == environment.strip().lower()
        return named and risk in self.risks and self.production == is_production(environment)


POLICY: tuple[Rule, ...] = (
    Rule(frozenset({"R0", "R1", "R2"}), production=True, role="approver", approvals=1),
    Rule(frozenset({"R3", "R4"}), production=True, role="approver", approvals=2),
    Rule(frozenset({"R0", "R1", "R2"}), production=False, role="responder", approvals=1),
    Rule(frozenset({"R3", "R4"}), production=False, role="approver", approvals=1),
)


@dataclass(frozen=True)
class AutoLimits:
    """How far the policy may go where a row lets it approve."""

    confidence: float = 0.9
    """Of the diagnosis, at least."""
    per_hour: int = 1
    """On one target."""
    per_day: int = 3


@dataclass(frozen=True)
class Policy:
    """The table in force, how long an action waits for its approvals, and when nothing changes."""

    rules: tuple[Rule, ...] = POLICY
    expires: timedelta = timedelta(hours=24)
    verify_for: timedelta | None = None
    """How long a server is watched after a write; None: as each remedy says (`agent/hold.py`)."""
    freezes: tuple[Window, ...] = ()
    maintenance: tuple[Window, ...] = ()
    people: Mapping[str, Role] | None = field(default=None, hash=False)
    """Who has a token now, by name in lower case, and its role; None: nobody is known by name."""
    automatic: AutoLimits = AutoLimits()
    dry_run: bool = False
    """Nothing is ever written, whatever is approved."""


BUILT_IN = Policy()


@dataclass(frozen=True)
class Decision:
    """Whether an action may be applied now, and why."""

    allowed: bool
    reason: str


@dataclass(frozen=True)
class Hold:
    """Why an action has to wait, and until when; `until` None: no end is known."""

    reason: str
    until: datetime | None


def is_production(environment: str) -> bool:
    """Production unless its name says otherwise."""
    return environment.strip().lower() not in NOT_PRODUCTION


def rule_for(risk: str, environment: str, policy: Policy = BUILT_IN) -> Rule | None:
    """The first rule that covers this; None: refused."""
    return next((rule for rule in policy.rules if rule.covers(risk, environment)), None)


def may_approve(role: Role, risk: Risk, environment: str, policy: Policy = BUILT_IN) -> bool:
    """Does this role's yes count here?"""
    rule = rule_for(risk, environment, policy)
    return rule is not None and role in ROLES and ROLES.index(role) >= ROLES.index(rule.role)


def least_role(risk: Risk, environment: str, policy: Policy = BUILT_IN) -> Role | None:
    """The lowest role whose yes counts here; None: nobody's does."""
    return next((role for role in ROLES if may_approve(role, risk, environment, policy)), None)


def approvals_required(risk: Risk, environment: str, policy: Policy = BUILT_IN) -> int:
    """People who must say yes. Raises LookupError where nobody can."""
    rule = rule_for(risk, environment, policy)
    if rule is None:
        raise LookupError(f"no rule lets anybody approve {risk} in {environment}")
    return rule.approvals


def decide(
    action: Action,
    approvals: Iterable[Approval],
    environment: str,
    *,
    proposed_by: str | None = None,
    now: datetime | None = None,
    policy: Policy = BUILT_IN,
) -> Decision:
    """May it be applied? `proposed_by`: the person behind an ad-hoc action, if one is."""
    if (refusal := _refusal(action, now)) is not None:
        return Decision(allowed=False, reason=refusal)
    rule = rule_for(action.risk, environment, policy)
    if rule is None:
        return Decision(allowed=False, reason=f"no rule covers {action.risk} in {environment}")
    said = list(approvals)
    if (alone := _enough_alone(action, said, rule, policy)) is not None:
        return Decision(allowed=True, reason=alone)
    counted = _counted(action, said, environment, policy)
    needed = max(rule.approvals, action.approvals_required)
    if len(counted) < needed:
        because = f"{len(counted)} of {needed} approvals by {rule.role} or above"
        return Decision(allowed=False, reason=because)
    if rule.production and proposed_by is not None and set(counted) == {proposed_by.casefold()}:
        because = f"{proposed_by} proposed it and cannot be its only approver in production"
        return Decision(allowed=False, reason=because)
    return Decision(allowed=True, reason=f"approved by {', '.join(sorted(counted.values()))}")


def held(
    action: Action,
    target: str,
    environment: str,
    at: datetime,
    *,
    policy: Policy = BUILT_IN,
    freezes: Sequence[Window] = (),
) -> Hold | None:
    """Must it wait, for a freeze to end or a maintenance window to begin? None: it may go on.

    `freezes`: those people declared, beside the configured ones. An approval that breaks the glass
    passes all of them.
    """
    if _glass(action.approvals, policy) is not None:
        return None
    production = is_production(environment)

    def about(windows: Iterable[Window]) -> list[Window]:
        return [w for w in windows if w.covers(target, environment, production=production)]

    rule = rule_for(action.risk, environment, policy)
    frozen = about((*policy.freezes, *freezes))
    windows = about(policy.maintenance) if rule is not None and rule.only_in_window else None
    first = _hold_at(at, frozen, windows)
    if first is None:
        return None
    until = first.until
    for _ in range(MOST_HOLDS):
        following = _hold_at(until, frozen, windows) if until is not None else None
        if following is None:
            break
        until = following.until
    return Hold(first.reason, until)


def _hold_at(
    at: datetime, frozen: Sequence[Window], windows: Sequence[Window] | None
) -> Hold | None:
    end = joined_end(frozen, at)
    if end is not None:
        why = "; ".join(dict.fromkeys(w.reason for w in frozen if w.open_until(at) is not None))
        return Hold(f"changes are frozen until {spoken_time(end)}: {why}", end)
    if windows is None or any(window.open_until(at) is not None for window in windows):
        return None
    begin = min((b for w in windows if (b := w.opens_after(at)) is not None), default=None)
    when = f"the next begins {spoken_time(begin)}" if begin else "none is coming"
    return Hold(f"it is applied in a maintenance window only, and {when}", begin)


class _Waiting(Protocol):
    status: Any
    not_before: Any


def waits(action: _Waiting, at: datetime) -> bool:
    """Approved for later than that moment?"""
    return action.status == "approved" and action.not_before is not None and action.not_before > at


def spoken_time(moment: datetime) -> str:
    """`Mon 2026-11-30 08:00 UTC`."""
    return f"{moment:%a %Y-%m-%d %H:%M} UTC"


def _enough_alone(
    action: Action, approvals: Sequence[Approval], rule: Rule, policy: Policy
) -> str | None:
    """One approval that needs no other: broken glass, or the policy's own where it may."""
    if (glass := _glass(approvals, policy)) is not None:
        return f"break-glass by {glass.by}: {glass.comment}"
    automatic = any(approval.role == AUTOMATIC for approval in approvals)
    if automatic and rule.auto and action.risk in MAY_BE_AUTOMATIC:
        return "approved by the policy, automatically"
    return None


def _glass(approvals: Iterable[Approval], policy: Policy) -> Approval | None:
    broken = (a for a in approvals if a.break_glass and _role_now(a, policy) == "admin")
    return next(broken, None)


def _counted(
    action: Action, approvals: Iterable[Approval], environment: str, policy: Policy
) -> dict[str, str]:
    """People whose yes counts by the policy of now; one name is one person."""
    return {
        approval.by.casefold(): approval.by
        for approval in approvals
        if (role := _role_now(approval, policy)) is not None
        and may_approve(role, action.risk, environment, policy)
    }


def _role_now(approval: Approval, policy: Policy) -> Role | None:
    """The lower one of the role then and now; None: no person's, or theirs no longer."""
    if approval.role == AUTOMATIC:
        return None
    if policy.people is None:
        return approval.role
    now = policy.people.get(approval.by.casefold())
    return None if now is None else min(approval.role, now, key=ROLES.index)


def _refusal(action: Action, now: datetime | None) -> str | None:
    if not action.executable:
        return "it is a proposal: a person carries it out"
    if action.rejected_by is not None:
        return f"rejected by {action.rejected_by}"
    if now is not None and action.expires_at is not None and now >= action.expires_at:
        return f"the approval expired at {action.expires_at:%Y-%m-%d %H:%M} UTC"
    return None
