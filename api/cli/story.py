"""What happened to an incident, told in lines. Pure."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from agent.report_timeline import words_of
from api.cli.following import Event
from tools.reading import printable

LONGEST = 600
_KINDS = frozenset({"status", "evidence", "claim", "plan", "action", "end"})


class Story:
    """Of one incident: what is told already is not told again."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._approvals: dict[str, int] = {}
        self.looks = 0
        self.began = datetime.now(UTC)
        """When what is going on began."""

    def lines(self, event: Event) -> Iterator[str]:
        """What an event says to people; mostly one line, of some kinds none."""
        tell = getattr(self, f"_{event.kind}") if event.kind in _KINDS else None
        before = self.now()
        for line in tell(event.data) if tell else ():
            yield printable(" ".join(line.split()), LONGEST)
        if self.now() != before:
            self.began = event.at or datetime.now(UTC)

    def _status(self, data: dict[str, Any]) -> Iterator[str]:
        if told := words_of("status", data, self._known):
            yield told
        alert = data.get("alert") or data.get("resolved")
        if "so_far" in data:
            held, hold = (float(data.get(name, 0)) for name in ("held_seconds", "hold_seconds"))
            yield f"{data.get('action')} watched for {held:.0f} of {hold:.0f} s: {data['so_far']}"
        elif data.get("question"):
            yield f"{data.get('by')} asked: {data['question']}"
        elif "attempt" in data:
            yield f"attempt {data['attempt']}: {data.get('because')}"
        elif data.get("moved_to"):
            yield f"alert {alert} went on as {data['moved_to']}"
        elif data.get("resolved"):
            yield f"alert {alert} ended"
        elif alert and not data.get("silenced"):
            worse = f" is {data['severity']} now" if "severity" in data else " fires"
            yield f"alert {alert}{worse}"
        for threshold in data.get("thresholds") or ():
            yield f"threshold crossed, {threshold}"

    def _evidence(self, data: dict[str, Any]) -> Iterator[str]:
        self.looks += 1
        yield f"{data.get('id')} {data.get('tool')}: {data.get('summary')}"

    def _claim(self, data: dict[str, Any]) -> Iterator[str]:
        sources = dict.fromkeys(str(fact.get("evidence")) for fact in data.get("facts") or ())
        yield f"found: {data.get('text')} [{', '.join(sources)}]"

    def _plan(self, data: dict[str, Any]) -> Iterator[str]:
        self._approvals.clear()
        self._known = {"": self._known.get("", "")}  # other actions of the same names
        actions = [one for one in data.get("actions") or () if one.get("executable")]
        if not actions:
            yield "plan: nothing that can be done from here"
        for one in actions:
            yield f"plan: {one.get('id')} ({one.get('risk')}) {one.get('title')}"

    def _action(self, data: dict[str, Any]) -> Iterator[str]:
        approvals, name = data.get("approvals") or [], str(data.get("id"))
        for yes in approvals[self._approvals.get(name, 0) :]:
            glass = ", breaking the glass" if yes.get("break_glass") else ""
            why = f": {yes['comment']}" if yes.get("comment") else ""
            yield f"{name} approved by {yes.get('by')}{glass}{why}"
        self._approvals[name] = len(approvals)
        if (told := words_of("action", data, self._known)) and data.get("status") != "approved":
            yield told
        elif told and data.get("comment"):
            yield f"{name} {data['comment']}"

    def _end(self, data: dict[str, Any]) -> Iterator[str]:
        if told := words_of("status", data, self._known):
            yield told

    def now(self) -> str:
        """What is going on."""
        return self._known.get("", "").replace("_", " ")
