"""`policy:` of the file: its rows first, then the built-in table; no match refuses."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.policy import POLICY, Policy, approvals_required, may_approve, rule_for
from api.app import create_app
from api.settings import Settings, SettingsError
from tests.api.serving import serving
from tests.api.test_actions import Gate
from tests.api.test_settings import load

STRICT = {
    "rules": [
        {"risk": ["R3", "R4"], "environment": "production", "role": "admin", "approvals": 3},
        {"risk": "R1", "environment": "Staging", "role": "approver"},
        {"risk": "R1", "role": "admin"},
    ],
    "expires": "90m",
}


def policy_of(tmp_path: Path, policy: Any) -> Policy:
    return load(tmp_path, {"policy": policy}).policy


def test_without_one_the_built_in_table_stands(tmp_path: Path) -> None:
    assert load(tmp_path).policy == Policy(POLICY, timedelta(hours=24))


def test_the_first_row_that_matches_decides(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, STRICT)
    assert policy.expires == timedelta(minutes=90)
    found = {
        (risk, where): (rule.role, rule.approvals)
        for risk in ("R1", "R2", "R3")
        for where in ("production", "payments", "staging", "dev")
        if (rule := rule_for(risk, where, policy))
    }
    assert found == {
        # "production" is whatever counts as production; a row without environment is for all
        ("R1", "production"): ("admin", 1), ("R1", "payments"): ("admin", 1),
        ("R1", "staging"): ("approver", 1), ("R1", "dev"): ("admin", 1),
        ("R2", "production"): ("approver", 1), ("R2", "payments"): ("approver", 1),
        ("R2", "staging"): ("responder", 1), ("R2", "dev"): ("responder", 1),
        ("R3", "production"): ("admin", 3), ("R3", "payments"): ("admin", 3),
        ("R3", "staging"): ("approver", 1), ("R3", "dev"): ("approver", 1),
    }  # fmt: skip
    assert not may_approve("approver", "R3", "payments", policy)
    assert approvals_required("R3", "payments", policy) == 3


def test_no_match_refuses() -> None:
    assert rule_for("R1", "production", Policy(())) is None
    assert not may_approve("admin", "R1", "production", Policy(()))


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        ({"rules": [{"risk": "R9", "role": "admin"}]}, "policy.rules.0.risk"),
        ({"rules": [{"risk": [], "role": "admin"}]}, "policy.rules.0.risk"),
        ({"rules": [{"role": "admin"}]}, "policy.rules.0.risk"),
        ({"rules": [{"risk": "R1", "role": "viewer"}]}, "policy.rules.0.role"),
        ({"rules": [{"risk": "R1", "role": "admin", "approvals": 0}]}, "policy.rules.0.approvals"),
        ({"rules": [{"risk": "R1", "role": "admin", "when": "now"}]}, "policy.rules.0.when"),
        ({"rules": {"risk": "R1"}}, "policy.rules"),
        ({"expires": "soon"}, "policy.expires"),
        ({"expires": 24}, "policy.expires"),
        ({"expires": "0m"}, "policy.expires"),
        ({"expires": "99d"}, "policy.expires"),
        ({"roles": []}, "policy.roles"),
    ],
)
def test_a_mistake_names_the_field(tmp_path: Path, policy: Any, field: str) -> None:
    with pytest.raises(SettingsError, match=field.replace(".", r"\.") + r"[.:]"):
        policy_of(tmp_path, policy)


async def test_the_service_asks_for_what_the_file_says(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = [
        {"risk": "R1", "environment": "production", "role": "responder", "approvals": 2},
        {"risk": "R1", "environment": "staging", "role": "admin"},
    ]
    app = create_app(settings(policy={"rules": rules}), worker=False)
    async with serving(app) as client:
        gate = Gate(client)
        gate._patch = monkeypatch
        await gate.propose("R1")
        first = await gate.say("approve", "responder")
        assert (first.status_code, first.json()["status"]) == (200, "proposed")
        second = await gate.say("approve", "approver")
        assert second.json()["status"] == "approved"
        await gate.propose("R1", "cache-us")
        assert (await gate.say("approve", "approver")).status_code == 403
        assert (await gate.say("approve", "admin")).json()["status"] == "approved"
