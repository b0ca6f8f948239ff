"""The policy approves by itself: a real service on a real server, from the alert to the record."""

from pathlib import Path
from typing import Any

import pytest

from evals import servers
from tests.api.process import Oncall, settings_written

POLICY: dict[str, Any] = {
    "rules": [{"risk": ["R0", "R1"], "environment": "staging", "role": "responder", "auto": True}],
    "verify_for": "2s",
}


@pytest.mark.usefixtures("close_samples")
@pytest.mark.long
def test_what_the_owner_left_to_the_policy_is_done_at_night_and_nothing_else(
    tmp_path: Path, ill: servers.Server
) -> None:
    oncall = Oncall(tmp_path, ill.port, POLICY)
    oncall.start()
    try:
        incident_id = oncall.alert()

        def verified() -> Any:
            actions = oncall.incident(incident_id).plan.actions
            return next((action for action in actions if action.status == "verified"), None)

        done = oncall.wait(verified, "the policy's own action is verified")
        assert (done.kind, done.risk) == ("set_config", "R1")
        (approval,) = done.approvals
        assert (approval.by, approval.role) == ("policy", "automatic")
        assert settings_written(ill) == 1
        # One action of a plan, and none of a higher risk: the rest waits for people.
        incident = oncall.reaches(incident_id, "awaiting_approval")
        rest = [a for a in incident.plan.actions if a.executable and a.id != done.id]
        assert {action.status for action in rest} == {"proposed"}
        assert "R3" in {action.risk for action in rest}
        report = oncall.client.get(f"/v1/incidents/{incident_id}/report").text
        assert f"{done.id} approved by policy" in report
        assert 'redis_oncall_approvals{by="policy"} 1.0' in oncall.client.get("/metrics").text
    finally:
        oncall.stop()
