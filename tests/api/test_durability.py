"""kill -9 of the real service, with the real graph, on a real server: nothing is lost.

SQLite and the embedded queue, which forgets everything: the hardest of the installations.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from evals import servers
from tests.api.process import Oncall, setting_of, settings_written, whole


@pytest.fixture
def oncall(tmp_path: Path, ill: servers.Server) -> Iterator[Oncall]:
    oncall = Oncall(tmp_path, ill.port)
    oncall.start()
    yield oncall
    oncall.stop()


@pytest.mark.long
def test_killed_in_the_middle_of_the_investigation(oncall: Oncall) -> None:
    incident_id = oncall.alert()
    oncall.wait(lambda: oncall.incident(incident_id).evidence, "it looks at the server")
    oncall.kill()
    oncall.start()
    before = oncall.incident(incident_id)
    assert before.status == "investigating"
    assert before.evidence
    incident = oncall.reaches(incident_id, "awaiting_approval")
    whole(oncall, incident)
    assert incident.evidence[: len(before.evidence)] == before.evidence
    assert incident.attempt == 1


@pytest.mark.usefixtures("close_samples")
@pytest.mark.long
def test_killed_right_after_the_webhook_was_accepted_and_again_at_the_gate(
    oncall: Oncall, ill: servers.Server
) -> None:
    incident_id = oncall.alert()
    oncall.kill()
    oncall.start()
    whole(oncall, oncall.reaches(incident_id, "awaiting_approval"))
    assert oncall.alert() == incident_id, "Alertmanager's repetition is still recognised"
    before = oncall.incident(incident_id)
    oncall.kill()
    oncall.start()
    assert oncall.incident(incident_id) == before
    assert settings_written(ill) == 0
    action = setting_of(before)
    oncall.approve(incident_id, action)
    oncall.wait(
        lambda: oncall.action(incident_id, action.id).status == "verified",
        "the approved action is verified",
    )
    assert settings_written(ill) == 1
    oncall.reject_rest(incident_id)
    assert oncall.reaches(incident_id, "resolved", "needs_human").plan.actions


@pytest.mark.usefixtures("close_samples")
@pytest.mark.long
def test_killed_while_it_applies_nothing_is_applied_twice(
    oncall: Oncall, ill: servers.Server
) -> None:
    incident_id = oncall.alert()
    action = setting_of(oncall.reaches(incident_id, "awaiting_approval"))
    oncall.approve(incident_id, action)
    oncall.wait(
        lambda: oncall.incident(incident_id).status != "awaiting_approval", "it goes to work"
    )
    oncall.kill()
    oncall.start()

    def settled() -> str | None:
        status = oncall.action(incident_id, action.id).status
        return None if status in ("approved", "applying", "applied") else status

    ended = oncall.wait(settled, "the action is settled")
    assert ended in ("verified", "outcome_unknown", "failed", "lapsed")
    assert settings_written(ill) <= 1
    oncall.reject_rest(incident_id)
    oncall.reaches(incident_id, "resolved", "needs_human")
