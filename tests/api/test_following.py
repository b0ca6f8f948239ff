"""Events of an incident across lost connections, and what they say."""

import contextlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import httpx2
import pytest
import typer
from rich.console import Console

from agent.incident import Incident
from api.cli import carried_out, following, render, tail
from api.cli.client import Refusal
from api.cli.following import Event, Following
from api.cli.story import Story
from tests.api.test_actions import OTHER, action

INCIDENT = Incident(
    id="inc-1", status="remediating", severity="warning", title="t", target="cache-eu",
    opened_at=datetime(2026, 11, 30, tzinfo=UTC), updated_at=datetime(2026, 11, 30, tzinfo=UTC),
)  # fmt: skip
Answer = list[str] | int | httpx2.HTTPError


def block(number: int, kind: str, /, **data: Any) -> list[str]:
    when = f": 2026-11-30T03:00:0{number}+00:00"
    return [when, f"id: {number}", f"event: {kind}", f"data: {json.dumps(data)}", ""]


class Wire:
    """Answers to each connection in turn; a list breaks off after its lines."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []
        self.waits: list[float] = []
        self.said: list[str] = []

    @contextlib.contextmanager
    def stream(self, *_: Any, headers: dict[str, str], **__: Any) -> Iterator[Any]:
        self.asked.append(headers["Last-Event-ID"])
        answer = self._answers.pop(0)
        if isinstance(answer, httpx2.HTTPError):
            raise answer
        if isinstance(answer, int):
            yield httpx2.Response(answer, json={"detail": "no"})
        else:
            yield httpx2.Response(200, text="\n".join([*answer, ""]))

    def follow(self, **how: Any) -> list[Event]:
        one = Following("inc-1", say=self.said.append)
        return list(one.events(**how))


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Wire]:
    def make(*answers: Answer) -> Wire:
        made = Wire(*answers)
        monkeypatch.setattr("api.cli.following.httpx2.stream", made.stream)
        monkeypatch.setattr("api.cli.following.time.sleep", made.waits.append)
        return made

    return make


def test_a_lost_connection_is_taken_up_where_it_broke(wire: Callable[..., Wire]) -> None:
    lost = httpx2.ConnectError("gone")
    end = [": ping - 2026-11-30 03:00:01.000000+00:00", "", *block(3, "end", status="closed")]
    cut = [*block(1, "status", status="queued"), *block(2, "evidence", id="E1")[:2]]
    one = wire(cut, lost, lost, 503, block(2, "evidence", id="E1"), end)
    found = one.follow()
    assert [(event.number, event.kind) for event in found] == [
        (1, "status"), (2, "evidence"), (3, "end"),
    ]  # fmt: skip
    assert found[0].at is not None
    assert found[0].at.second == 1
    assert one.asked == ["0", "1", "1", "1", "1", "2"]
    assert one.waits == [0.5, 1.0, 2.0, 4.0, 0.5], "longer and longer, until something comes"
    assert "tried again in 4 s" in one.said[3]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_will_not_change_is_not_tried_again(wire: Callable[..., Wire], status: int) -> None:
    one = wire(status)
    with pytest.raises(Refusal, match=str(status)):
        one.follow()
    assert one.waits == []


def test_a_service_that_stays_away_is_given_up(wire: Callable[..., Wire]) -> None:
    one = wire(*[httpx2.ConnectError("gone")] * 200)
    with pytest.raises(Refusal, match="no answer"):
        one.follow()
    assert max(one.waits) == following.LONGEST_PAUSE
    assert 0 <= sum(one.waits) - following.PATIENCE_SECONDS <= following.LONGEST_PAUSE


def test_past_the_end_of_one_attempt_comes_the_next(wire: Callable[..., Wire]) -> None:
    again = [*block(2, "status", status="queued"), *block(3, "end", status="closed")]
    one = wire(block(1, "end", status="needs_human"), again)
    found = Following("inc-1", say=one.said.append).events(past_the_end=True)
    seen = [next(found).number for _ in range(3)]
    assert seen == [1, 2, 3]
    assert one.said == [], "that a stream ends with its incident is nothing to be told of"


def approved(**changes: Any) -> dict[str, Any]:
    return action("R1", **{"status": "approved"} | changes).model_dump(mode="json")


def test_what_was_approved_is_followed_until_it_is_undone(
    wire: Callable[..., Wire], capsys: pytest.CaptureFixture[str]
) -> None:
    undone = approved(status="rolled_back", comment="it did not help")
    one = wire(
        block(1, "action", **approved(fingerprint=OTHER, status="outcome_unknown")),
        block(2, "action", **approved()),
        block(3, "action", **approved(status="applying")),
        [*block(4, "status", status="verifying", action="A1", held_seconds=0, hold_seconds=9),
         *block(5, "action", **approved(status="rolling_back")),
         *block(6, "action", **undone)],
    )  # fmt: skip
    (ended,) = carried_out.follow(INCIDENT, [approved()])
    assert ended == undone
    said = capsys.readouterr().err
    assert said.count("undone: it did not help") == 1
    assert "OUTCOME UNKNOWN" not in said, "that of another plan"
    assert one.asked == ["0", "1", "2", "3"]


@pytest.mark.parametrize("waits", [{"status": "proposed"}, {"not_before": "2026-12-01T02:00:00Z"}])
def test_what_waits_for_people_or_for_its_time_is_not_waited_for(
    wire: Callable[..., Wire], waits: dict[str, Any]
) -> None:
    one = wire()
    answer = approved(**waits)
    assert carried_out.follow(INCIDENT, [answer]) == [answer]
    assert one.asked == []


def test_an_approval_stands_when_nobody_waits_any_more(
    wire: Callable[..., Wire], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wire(401)
    assert carried_out.follow(INCIDENT, [approved()]) == [approved()]
    assert "The approval stands." in capsys.readouterr().err

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("api.cli.following.httpx2.stream", interrupted)
    with pytest.raises(typer.Exit) as left:
        carried_out.follow(INCIDENT, [approved()])
    assert left.value.exit_code == 130
    assert "redis-oncall tail inc-1" in capsys.readouterr().err


def test_a_lost_connection_is_told_above_the_living_line(
    wire: Callable[..., Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Console(file=StringIO(), force_terminal=True, width=80)
    monkeypatch.setattr(render, "console", lambda **_: out)
    monkeypatch.setattr(render, "at_terminal", lambda **_: True)
    lost = httpx2.ConnectError("gone")
    wire(lost, block(1, "action", **approved(status="verified")))
    carried_out.follow(INCIDENT, [approved()])
    monkeypatch.setattr("api.cli.tail.request", lambda *_: INCIDENT.model_dump(mode="json"))
    wire(lost, block(1, "end", status="closed"))
    tail.tail("inc-1", follow=False, as_json=False)
    lines = out.file.getvalue().splitlines()  # type: ignore[attr-defined]
    said = [line for line in lines if "redis-oncall: no answer" in line]
    assert len(said) == 2
    assert not any("waiting" in line for line in said)


def told(*events: tuple[str, dict[str, Any]]) -> list[str]:
    story = Story()
    return [line for n, (kind, data) in enumerate(events) for line in
            story.lines(Event(n, kind, data))]  # fmt: skip


def test_each_event_is_a_line_that_a_terminal_may_show() -> None:
    yes = {"by": "ann", "comment": "go", "role": "admin"}
    action = {"id": "A1", "status": "proposed", "comment": ""}
    assert told(
        ("status", {"status": "investigating", "ended_because": ""}),
        ("evidence", {"id": "E1", "tool": "bigkeys", "summary": "\x1b[31m\u202ek\x00\nnext"}),
        ("status", {"status": "investigating", "thresholds": ["warning: 80 %"]}),
        ("claim", {"text": "[bold]x[/bold]", "facts": [{"evidence": "E1"}, {"evidence": "E1"}]}),
        ("plan", {"actions": [{"id": "A1", "risk": "R1", "title": "t", "executable": True},
                              {"id": "A2", "risk": "R0", "title": "t", "executable": False}]}),
        ("action", action | {"approvals": [yes], "status": "approved"}),
        ("action", action | {"approvals": [yes], "status": "applying"}),
        ("status", {"status": "verifying", "action": "A1", "held_seconds": 5.0,
                    "hold_seconds": 30.0, "so_far": "nothing got worse"}),
        ("action", action | {"approvals": [yes], "status": "rolled_back", "comment": "no help"}),
        ("status", {"status": "verifying", "resolved": "High"}),
        ("unheard-of", {"status": "x"}),
        ("end", {"status": "needs_human", "ended_because": "no help"}),
    ) == [
        "investigating", r"E1 bigkeys: \x1b[31m\u202ek\x00 next",
        "threshold crossed, warning: 80 %",
        "found: [bold]x[/bold] [E1]", "plan: A1 (R1) t", "A1 approved by ann: go",
        "A1 being applied", "verifying", "A1 watched for 5 of 30 s: nothing got worse",
        "A1 undone: no help", "alert High ended", "needs human: no help",
    ]  # fmt: skip
