"""Deciding on a terminal: what is shown, what is asked, what is sent."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import typer
from starlette.testclient import TestClient
from typer.testing import CliRunner, Result

from agent.incident import Action, Plan
from api.app import create_app
from api.cli import gate
from api.cli.client import Refused
from api.cli.main import app
from api.settings import Settings
from api.store.journal import SqlJournal
from tests.api.serving import as_role
from tests.api.test_actions import GOOD, OTHER, action
from tests.api.test_incidents_api import journal_of

COMMANDS = [["EXPIRE", f"session:{number}", "600"] for number in range(60)]


class Terminal:
    """A person with a role at a terminal, and the service behind it."""

    def __init__(self, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
        self.client, self.role = client, "admin"
        self._journals: dict[str, SqlJournal] = {}
        self.meanwhile: Callable[[], object] = lambda: None
        """Happens between what is shown and what is decided."""
        monkeypatch.setattr(gate, "call", self.call)

    def call(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        if method == "POST":
            self.meanwhile()
        answer = self.client.request(
            method, path, json=body, params=query, headers=as_role(self.role)
        )
        if answer.is_success:
            return answer.json()
        typer.echo(answer.json()["detail"], err=True)
        raise Refused(answer.status_code)

    def says(self, *words: str, role: str = "admin", keys: str = "") -> Result:
        self.role = role
        return CliRunner().invoke(app, words, input=keys)

    def propose(self, *actions: Action) -> str:
        opened = self.client.post(
            "/v1/investigations", json={"target": "cache-eu"}, headers=as_role("admin")
        )
        incident_id: str = opened.json()["id"]
        self.plan(incident_id, *actions)
        return incident_id

    def plan(self, incident_id: str, *actions: Action) -> None:
        async def plan() -> None:
            if incident_id not in self._journals:
                self._journals[incident_id] = await journal_of(self.client, incident_id)  # type: ignore[arg-type]
            journal = self._journals[incident_id]
            await journal.set_plan(Plan(actions=list(actions)))
            await journal.set_status("awaiting_approval")

        assert self.client.portal is not None
        self.client.portal.call(plan)


@pytest.fixture
def terminal(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Terminal]:
    application = create_app(settings(), worker=False)
    with TestClient(application, base_url="http://127.0.0.1") as client:
        client._transport.app = application  # type: ignore[attr-defined]
        yield Terminal(client, monkeypatch)


def words(result: Result) -> str:
    return " ".join(result.stderr.split())


def test_exactly_what_will_be_sent_is_shown_in_80_columns(terminal: Terminal) -> None:
    known = ["the same was rolled back on 2026-11-27 03:00 UTC: it did not help (inc-1)"]
    incident = terminal.propose(
        action("R3", commands=COMMANDS, blast_radius="60 keys", rollback="PERSIST",
               predicted_effect="frees 1 MB", notes=known, approvals_required=2),
    )  # fmt: skip
    said = terminal.says("approve", incident, "A1", "--yes", "--comment", "ok")
    assert said.exit_code == 0, said.stderr
    for told in (
        "On cache-eu, exactly this:", "EXPIRE session:39 600", "and 20 more", "at worst 60 keys",
        "undo PERSIST", "changes or expires data", "needs 0 of 2 people said yes", *known,
        "A1 on cache-eu: 1 of 2 approvals; it needs another person",
    ):  # fmt: skip
        assert told in words(said)
    assert max(map(len, said.stderr.splitlines())) <= 80
    assert json.loads(said.stdout)["approvals"][0]["comment"] == "ok"


def test_without_a_terminal_nothing_is_decided_unless_yes_is_said(terminal: Terminal) -> None:
    incident = terminal.propose(action("R1"))
    for asked in (("A1",), ("A1", "--reject"), ("--all",)):
        refused = terminal.says("approve", incident, *asked)
        assert (refused.exit_code, "say --yes" in refused.stderr) == (2, True)
    for wrong in ((), ("A1", "--all"), ("--all", "--reject"), ("A9", "--yes")):
        assert terminal.says("approve", incident, *wrong).exit_code == 2


def test_a_person_is_asked_whether_and_for_a_no_also_why(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "_somebody_is_there", lambda: True)
    incident = terminal.propose(action("R1"))
    left = terminal.says("approve", incident, "A1", keys="n\n")
    assert left.exit_code == 1
    no = terminal.says("approve", incident, "A1", "--reject", keys="y\nthe owner said no\n")
    assert no.exit_code == 0, no.stderr
    rejected = json.loads(no.stdout[no.stdout.index("{") :])  # after the keys that were pressed
    assert (rejected["status"], rejected["comment"]) == ("rejected", "the owner said no")


def test_what_drops_or_changes_something_is_approved_by_the_name_of_its_target(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    incident = terminal.propose(action("R2"), action("R3", id="A2"))
    assert terminal.says("approve", incident, "A1", "--confirm", "cache-us").exit_code == 2
    named = terminal.says("approve", incident, "A1", "--confirm", "cache-eu")
    assert json.loads(named.stdout)["status"] == "approved"
    monkeypatch.setattr(gate, "_somebody_is_there", lambda: True)
    for typed in ("y", "cache-us", ""):
        left = terminal.says("approve", incident, "A2", keys=f"{typed}\n")
        assert left.exit_code == 1
        assert "that is not cache-eu: nothing was decided" in words(left)
    said = terminal.says("approve", incident, "A2", keys="cache-eu\n")
    assert said.exit_code == 0, said.stderr
    assert len(json.loads(said.stdout[said.stdout.index("{") :])["approvals"]) == 1


def test_what_changed_since_it_was_shown_is_shown_as_it_is_now(terminal: Terminal) -> None:
    incident = terminal.propose(action("R1", title="as it was"))

    def changes(**what: Any) -> None:
        terminal.meanwhile = lambda: None
        terminal.plan(incident, action("R1", **what))

    terminal.meanwhile = lambda: changes(fingerprint=OTHER, title="as it is")
    stale = terminal.says("approve", incident, "A1", "--yes")
    assert (stale.exit_code, stale.stdout) == (1, "")
    assert "A1 has changed since it was shown. Nothing was decided. Now it is:" in words(stale)
    assert "as it is" in words(stale)
    terminal.meanwhile = lambda: changes(id="A2", fingerprint=GOOD)
    assert "A1 is no longer in the plan" in words(terminal.says("approve", incident, "A1", "--yes"))
    body = {"fingerprint": GOOD, "comment": "no"}
    path = f"/v1/incidents/{incident}/actions/A2/reject"
    terminal.meanwhile = lambda: terminal.client.post(path, json=body, headers=as_role("admin"))
    late = terminal.says("approve", incident, "A2", "--yes")
    assert "A2 is rejected since it was shown: no" in words(late)


def test_who_may_not_is_told_which_role_it_takes(terminal: Terminal) -> None:
    incident = terminal.propose(action("R1"))
    viewer = terminal.says("approve", incident, "A1", "--yes", role="viewer")
    assert "this needs the role responder or higher; yours is viewer" in words(viewer)
    responder = terminal.says("approve", incident, "A1", "--yes", role="responder")
    assert responder.exit_code == 1
    assert "that takes the role approver or higher" in words(responder)


def test_all_that_waits_is_approved_in_one_step(terminal: Terminal) -> None:
    incident = terminal.propose(
        action("R1"),
        action("R3", id="A2", approvals_required=2),
        action("R1", id="A3", executable=False),
    )
    said = terminal.says("approve", incident, "--all", "--yes")
    assert said.exit_code == 0, said.stderr
    assert "if one does not end well, the rest is not begun" in words(said)
    assert [one["status"] for one in json.loads(said.stdout)] == ["approved", "proposed"]
    assert "A1 on cache-eu: approved; it is applied now" in words(said)
    assert "A2 on cache-eu: 1 of 2 approvals" in words(said)
    assert terminal.says("approve", incident, "--all", "--yes", role="approver").exit_code == 0
    assert terminal.says("approve", incident, "--all", "--yes").exit_code == 2


def test_freeze_wait_break_glass_stop_thaw(terminal: Terminal) -> None:
    expires = datetime.now(UTC) + timedelta(hours=5)
    incident = terminal.propose(action("R1", expires_at=expires), action("R1", id="A2"))
    frozen = terminal.says("freeze", "--reason", "we look", "--for", "90m")
    assert "every target frozen until" in words(frozen)
    assert terminal.says("freeze", "--reason", "we look", "--for", "soon").exit_code == 2
    assert "we look" in terminal.says("freezes").stdout
    waits = terminal.says("approve", incident, "A1", "--yes")
    assert "A1 on cache-eu: approved, not before" in words(waits)
    assert max(map(len, waits.stderr.splitlines())) <= 80
    glass = ("approve", incident, "A1", "--yes", "--break-glass")
    assert terminal.says(*glass).exit_code == 1  # no reason
    broken = terminal.says(*glass, "--comment", "the shop is down, I am alone")
    assert broken.exit_code == 0, broken.stderr
    assert "Everybody is paged" in words(broken)
    assert json.loads(broken.stdout)["not_before"] is None
    stopped = terminal.says("stop", incident, "A1", "--comment", "no")
    assert "A1: it is not begun" in words(stopped)
    number = str(json.loads(frozen.stdout)["id"])
    assert "thawed: " in words(terminal.says("thaw", number))
    assert "nothing is frozen" in words(terminal.says("freezes"))
    assert GOOD in stopped.stdout
