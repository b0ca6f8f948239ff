"""Who may approve what, as tables."""

from datetime import UTC, datetime, timedelta

import pytest

from agent.incident import Action, Approval, Risk, Role
from agent.policy import approvals_required, decide, is_production, may_approve

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RISKS: tuple[Risk, ...] = ("R0", "R1", "R2", "R3", "R4")


def action(risk: Risk = "R1", *, executable: bool = True, required: int = 1) -> Action:
    return Action(
        id="A1",
        fingerprint="f",
        kind="set_config",
        title="t",
        arguments={},
        risk=risk,
        executable=executable,
        approvals_required=required,
        expires_at=NOW + timedelta(hours=1),
    )


def yes(by: str, role: Role = "approver") -> Approval:
    return Approval(by=by, role=role, at=NOW)


@pytest.mark.parametrize(
    ("role", "risk", "environment", "may"),
    [
        *(("viewer", risk, where, False) for risk in RISKS for where in ("production", "staging")),
        *(("responder", risk, "production", False) for risk in RISKS),
        ("responder", "R0", "staging", True),
        ("responder", "R2", "staging", True),
        ("responder", "R3", "staging", False),
        ("responder", "R4", "dev", False),
        *(("approver", risk, where, True) for risk in RISKS for where in ("production", "staging")),
        *(("admin", risk, "production", True) for risk in RISKS),
        ("admin", "R9", "production", False),
        ("root", "R1", "production", False),
    ],
)
def test_whose_yes_counts(role: Role, risk: Risk, environment: str, may: bool) -> None:
    assert may_approve(role, risk, environment) is may


@pytest.mark.parametrize(
    ("environment", "production"),
    [("production", True), ("prod-eu", True), ("", True), ("Staging", False), ("dev", False)],
)
def test_an_unknown_environment_is_production(environment: str, production: bool) -> None:
    assert is_production(environment) is production


@pytest.mark.parametrize(
    ("risk", "environment", "people"),
    [
        ("R0", "production", 1),
        ("R1", "production", 1),
        ("R2", "production", 1),
        ("R3", "production", 2),
        ("R4", "production", 2),
        ("R3", "staging", 1),
        ("R4", "staging", 1),
    ],
)
def test_how_many_people_must_say_yes(risk: Risk, environment: str, people: int) -> None:
    assert approvals_required(risk, environment) == people


def test_no_rule_means_no() -> None:
    with pytest.raises(LookupError, match="R9"):
        approvals_required("R9", "production")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("risk", "approvals", "environment", "proposed_by", "allowed", "reason"),
    [
        ("R1", [], "production", None, False, "0 of 1"),
        ("R1", [yes("ann")], "production", None, True, "ann"),
        ("R1", [yes("ann", "responder")], "production", None, False, "0 of 1"),
        ("R1", [yes("ann", "responder")], "staging", None, True, "ann"),
        ("R1", [yes("ann", "viewer")], "staging", None, False, "0 of 1"),
        ("R3", [yes("ann")], "production", None, False, "1 of 2"),
        ("R3", [yes("ann"), yes("ann")], "production", None, False, "1 of 2"),
        ("R3", [yes("ann"), yes("bob", "responder")], "production", None, False, "1 of 2"),
        ("R3", [yes("ann"), yes("bob")], "production", None, True, "ann, bob"),
        ("R3", [yes("ann")], "staging", None, True, "ann"),
        ("R1", [yes("ann", "admin")], "production", "ann", False, "only approver"),
        ("R1", [yes("ann"), yes("bob")], "production", "ann", True, "ann, bob"),
        ("R1", [yes("bob")], "production", "ann", True, "bob"),
        ("R1", [yes("ann")], "staging", "ann", True, "ann"),
        ("R9", [yes("ann", "admin")], "production", None, False, "no rule"),
    ],
)
def test_decisions(
    risk: Risk,
    approvals: list[Approval],
    environment: str,
    proposed_by: str | None,
    allowed: bool,
    reason: str,
) -> None:
    asked = action().model_copy(update={"risk": risk})
    decision = decide(asked, approvals, environment, proposed_by=proposed_by, now=NOW)
    assert decision.allowed is allowed
    assert reason in decision.reason


def test_a_plan_may_ask_for_more_people_than_the_table() -> None:
    assert not decide(action(required=2), [yes("ann")], "staging", now=NOW).allowed


def test_what_expired_was_rejected_or_is_a_proposal_is_not_applied() -> None:
    late = decide(action(), [yes("ann")], "production", now=NOW + timedelta(hours=1))
    assert (late.allowed, "expired" in late.reason) == (False, True)
    rejected = action().model_copy(update={"rejected_by": "bob"})
    assert "rejected by bob" in decide(rejected, [yes("ann")], "production", now=NOW).reason
    proposal = decide(action(executable=False), [yes("ann")], "production", now=NOW)
    assert (proposal.allowed, "proposal" in proposal.reason) == (False, True)
