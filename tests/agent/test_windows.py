"""Freezes and maintenance windows, on the calendar."""

from datetime import UTC, datetime, timedelta

import pytest

from agent.incident import Action, Approval
from agent.policy import Policy, Rule, decide, held
from agent.windows import Window, joined_end
from api.gate_config import WindowEntry

SATURDAY = datetime(2026, 11, 28, 3, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=UTC)


def window(**entry: object) -> Window:
    return WindowEntry.model_validate(entry).window()


@pytest.mark.parametrize(
    ("entry", "moment", "until"),
    [
        ({"weekly": "Fri 16:00 - Mon 08:00"}, "2026-11-28 03:00", "2026-11-30 08:00"),
        ({"weekly": "Fri 16:00 - Mon 08:00"}, "2026-11-27 15:59", None),
        ({"weekly": "Fri 16:00 - Mon 08:00"}, "2026-11-30 08:00", None),
        ({"weekly": "friday 16:00 to monday 8:00"}, "2026-11-27 16:00", "2026-11-30 08:00"),
        ({"weekly": "22:00 - 04:00"}, "2026-11-28 03:00", "2026-11-28 04:00"),
        ({"weekly": "22:00 - 04:00"}, "2026-11-28 23:00", "2026-11-29 04:00"),
        ({"weekly": "02:00 - 04:00"}, "2026-11-28 23:00", None),
        ({"weekly": "Sat 00:00 - Sun 24:00"}, "2026-11-29 23:59", "2026-11-30 00:00"),
        ({"weekly": "Sat 10:00 - Sat 09:00"}, "2026-11-28 09:30", None),
        ({"weekly": "Sat 10:00 - Sat 09:00"}, "2026-11-28 08:30", "2026-11-28 09:00"),
        # Berlin is an hour ahead in winter and two in summer; on 2026-10-25 the clock goes back.
        (
            {"weekly": "Sat 12:00 - Sun 12:00", "timezone": "Europe/Berlin"},
            "2026-10-24 10:30", "2026-10-25 11:00",
        ),
        (
            {"weekly": "02:00 - 04:00", "timezone": "Europe/Berlin"},
            "2026-11-28 02:30", "2026-11-28 03:00",
        ),
        ({"from": "2026-11-20", "until": "2026-12-01"}, "2026-11-28 03:00", "2026-12-01 00:00"),
        ({"from": "2026-11-29", "until": "2026-12-01"}, "2026-11-28 03:00", None),
        (
            {"until": "2026-12-01 00:00", "timezone": "Europe/Berlin"},
            "2026-11-28 03:00", "2026-11-30 23:00",
        ),
        # repeated, but only from December on
        ({"from": "2026-12-01", "weekly": "02:00 - 04:00"}, "2026-11-28 03:00", None),
        (
            {"until": "2026-11-28 03:30", "weekly": "02:00 - 04:00"},
            "2026-11-28 03:00", "2026-11-28 03:30",
        ),
    ],
)  # fmt: skip
def test_when_it_is_open(entry: dict[str, object], moment: str, until: str | None) -> None:
    assert window(**entry).open_until(at(moment)) == (at(until) if until else None)


def test_when_it_opens_next() -> None:
    nightly = window(weekly=["Mon 02:00 - 04:00", "Thu 02:00 - 04:00"])
    assert nightly.opens_after(SATURDAY) == at("2026-11-30 02:00")
    assert nightly.opens_after(at("2026-11-30 02:00")) == at("2026-12-03 02:00")
    assert window(until="2026-11-01").opens_after(SATURDAY) is None
    later = window(**{"from": "2027-03-01", "weekly": "02:00 - 04:00"})
    assert later.opens_after(SATURDAY) == at("2027-03-01 02:00")


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"from": "2026-12-01"},
        {"from": "2026-12-01", "until": "2026-11-01"},
        {"weekly": "always"},
        {"weekly": "02:00 - Mon 04:00"},
        {"weekly": "25:00 - 26:00"},
        {"weekly": "02:00 - 04:00", "timezone": "Europe/Atlantis"},
        {"weekly": "02:00 - 04:00", "timezone": "../../etc/passwd"},
    ],
)
def test_what_is_no_time_is_refused(entry: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"say when|after `from`|expected|needs one|hours|zone"):
        window(**entry)


def test_freezes_that_follow_one_another_end_with_the_last() -> None:
    first = window(until="2026-11-28 04:00")
    second = window(**{"from": "2026-11-28 04:00", "until": "2026-11-29"})
    assert joined_end([first, second], SATURDAY) == at("2026-11-29 00:00")
    assert joined_end([second], SATURDAY) is None
    endless = window(weekly=["00:00 - 12:00", "12:00 - 24:00"])
    end = joined_end([endless], SATURDAY)
    assert end is not None
    assert end - SATURDAY >= timedelta(days=7)


def action(**changes: object) -> Action:
    values = {"id": "A1", "fingerprint": "f", "kind": "k", "title": "t", "arguments": {},
              "risk": "R3"}  # fmt: skip
    return Action.model_validate(values | changes)


def glass(role: str = "admin") -> dict[str, object]:
    return {"by": "Ann", "role": role, "at": SATURDAY, "break_glass": True, "comment": "it burns"}


NIGHT = window(weekly="Mon 02:00 - Mon 04:00")
FROZEN = window(weekly="Fri 16:00 - Mon 03:00", reason="the weekend", environments=["production"])
STRICT = Policy(
    (Rule(frozenset({"R3"}), production=True, role="approver", approvals=2, only_in_window=True),),
    freezes=(FROZEN,),
    maintenance=(NIGHT,),
)


def test_a_freeze_and_then_the_window_that_is_left_after_it() -> None:
    hold = held(action(), "cache", "prod-eu", SATURDAY, policy=STRICT)
    assert hold is not None
    assert "frozen until Mon 2026-11-30 03:00 UTC: the weekend" in hold.reason
    assert hold.until == at("2026-11-30 03:00")
    tuesday = held(action(), "cache", "prod-eu", at("2026-12-01 03:00"), policy=STRICT)
    assert tuesday is not None
    assert "the next begins Mon 2026-12-07 02:00 UTC" in tuesday.reason
    # that night is frozen until three
    assert tuesday.until == at("2026-12-07 03:00")
    assert held(action(), "cache", "prod-eu", at("2026-11-30 03:30"), policy=STRICT) is None
    assert held(action(), "cache", "staging", SATURDAY, policy=STRICT) is None
    assert held(action(risk="R1"), "cache", "production", at("2026-12-01 03:00"), policy=STRICT) \
        is None  # fmt: skip


def test_without_any_window_there_is_no_end_to_the_waiting() -> None:
    policy = Policy(STRICT.rules)
    hold = held(action(), "cache", "production", SATURDAY, policy=policy)
    assert hold is not None
    assert (hold.until, "none is coming" in hold.reason) == (None, True)


def test_broken_glass_passes_as_long_as_its_admin_is_one() -> None:
    broken = action(approvals=[glass()])
    assert held(broken, "cache", "production", SATURDAY, policy=STRICT) is None
    assert decide(broken, broken.approvals, "production", policy=STRICT).allowed
    for people in ({"ann": "approver"}, {"bob": "admin"}):
        demoted = Policy(STRICT.rules, freezes=STRICT.freezes, people=people)  # type: ignore[arg-type]
        assert held(broken, "cache", "production", SATURDAY, policy=demoted) is not None
        assert not decide(broken, broken.approvals, "production", policy=demoted).allowed
    no_admin = action(approvals=[glass("approver")])
    assert held(no_admin, "cache", "production", SATURDAY, policy=STRICT) is not None


def test_whose_yes_counts_is_judged_by_the_roles_of_now() -> None:
    two = [Approval(by=by, role="approver", at=SATURDAY) for by in ("Ann", "bob")]
    rules = Policy().rules
    for people, allowed in (
        (None, True),
        ({"ann": "approver", "bob": "admin"}, True),
        ({"ann": "viewer", "bob": "admin"}, False),
        ({"ann": "approver"}, False),
        ({}, False),
    ):
        policy = Policy(rules, people=people)  # type: ignore[arg-type]
        assert decide(action(), two, "production", policy=policy).allowed is allowed, people


def test_one_person_is_one_person_however_the_name_is_written() -> None:
    twice = [Approval(by=by, role="approver", at=SATURDAY) for by in ("ann", "Ann")]
    assert not decide(action(), twice, "production").allowed


def test_the_policys_own_yes_needs_a_row_that_says_so() -> None:
    own = [Approval(by="policy", role="automatic", at=SATURDAY)]
    for risk, auto, allowed in (("R1", True, True), ("R1", False, False), ("R3", True, False)):
        rule = Rule(frozenset({risk}), production=True, role="approver", approvals=2, auto=auto)
        decision = decide(action(risk=risk), own, "production", policy=Policy((rule,)))
        assert decision.allowed is allowed, (risk, auto)
