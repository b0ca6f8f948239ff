"""Who may approve what. A table: the first rule that matches decides, and no match refuses."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.incident import Action, Approval, Risk, Role

ROLES: tuple[Role, ...] = ("viewer", "responder", "approver", "admin")
"""Each may what those before it may."""
NOT_PRODUCTION = frozenset({"staging", "test", "testing", "development", "dev", "demo", "local"})
"""Any other name, also one nobody thought of, is production."""


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
class Policy:
    """The table in force, and how long an action waits for its approvals."""

    rules: tuple[Rule, ...] = POLICY
    expires: timedelta = timedelta(hours=24)


BUILT_IN = Policy()


@dataclass(frozen=True)
class Decision:
    """Whether an action may be applied now, and why."""

    allowed: bool
    reason: str


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
    counted = {a.by for a in approvals if may_approve(a.role, action.risk, environment, policy)}
    needed = max(rule.approvals, action.approvals_required)
    if len(counted) < needed:
        because = f"{len(counted)} of {needed} approvals by {rule.role} or above"
        return Decision(allowed=False, reason=because)
    if rule.production and proposed_by is not None and counted == {proposed_by}:
        because = f"{proposed_by} proposed it and cannot be its only approver in production"
        return Decision(allowed=False, reason=because)
    return Decision(allowed=True, reason=f"approved by {', '.join(sorted(counted))}")


def _refusal(action: Action, now: datetime | None) -> str | None:
    if not action.executable:
        return "it is a proposal: a person carries it out"
    if action.rejected_by is not None:
        return f"rejected by {action.rejected_by}"
    if now is not None and action.expires_at is not None and now >= action.expires_at:
        return f"the approval expired at {action.expires_at:%Y-%m-%d %H:%M} UTC"
    return None
