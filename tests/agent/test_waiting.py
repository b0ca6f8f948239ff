"""Who waits for whom, in a few words."""

from datetime import UTC, datetime
from typing import Any

import pytest

from agent.incident import Incident
from agent.waiting import waits_for
from tests.api.report_samples import sample


def waiting(status: str, *actions: dict[str, Any]) -> Incident:
    whole = sample("a word")
    plan = [whole.plan.actions[0].model_copy(update={"approvals": [], **one}) for one in actions]
    return whole.model_copy(
        update={"status": status, "plan": whole.plan.model_copy(update={"actions": plan})}
    )


@pytest.mark.parametrize(
    ("incident", "said"),
    [
        (waiting("queued"), "a worker"),
        (waiting("investigating"), "investigating"),
        (waiting("resolved"), "resolved"),
        (waiting("needs_human"), "a person"),
        (
            waiting(
                "awaiting_approval",
                {"id": "A1", "status": "proposed"},
                {"id": "A2", "status": "proposed", "risk": "R3", "approvals_required": 2},
                {"id": "A3", "status": "proposed", "executable": False},
            ),
            "approval of A1 (R1) and 1 more",
        ),
        (
            waiting("awaiting_approval", {"id": "A1", "status": "outcome_unknown"}),
            "a person to look at A1",
        ),
        (
            waiting(
                "awaiting_approval",
                {
                    "id": "A1", "status": "approved",
                    "not_before": datetime(2026, 1, 31, 3, tzinfo=UTC),
                },
            ),
            "A1, from Sat 03:00 UTC",
        ),
    ],
)  # fmt: skip
def test_it_is_said_who_has_to_do_something(incident: Incident, said: str) -> None:
    assert waits_for(incident) == said


def test_behind_another_incident_of_its_target_it_says_which() -> None:
    assert waits_for(waiting("queued"), "inc-1") == "inc-1 on the same target"
