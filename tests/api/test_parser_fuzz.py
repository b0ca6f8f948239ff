"""Whatever arrives: an envelope that cannot be read is refused, and of any other nothing is lost.

In full: `python -m pytest tests/api/test_parser_fuzz.py --hypothesis-profile=long`.
"""

import contextlib
import copy
import json
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from api.alerts import alertmanager, datadog, generic, pagerduty
from api.alerts.parsed import (
    LONGEST_TEXT,
    MOST_LABELS,
    Parsed,
    UnreadableEnvelope,
    message_of,
)
from tests.api.senders import event, transition
from tests.api.test_alerts import firing, message

OWN = {"name": "slow", "status": "firing", "fingerprint": "x", "starts_at": "2026-01-31T03:00:00Z",
       "ends_at": None, "labels": {"instance": "a"}, "annotations": {"runbook": "r"}}  # fmt: skip
PARSERS: dict[str, tuple[Callable[[Any], list[Parsed]], Any]] = {
    "alertmanager": (alertmanager.parse, message(firing(), firing("f2", status="resolved"))),
    "grafana": (lambda body: alertmanager.parse(body, "grafana"), message(firing())),
    "pagerduty": (pagerduty.parse, event(custom_details={"a": "b"}, body={"details": {"c": 1}})),
    "datadog": (datadog.parse, transition()),
    "generic": (generic.parse, {"alerts": [OWN, OWN]}),
}
TEXT = st.one_of(
    st.text(st.characters(), max_size=40),
    st.sampled_from([
        "", "\x00", "\ud800", "\x1b[2J", "\u202e", "null", "-1", "1e400", "a:b,c", "x" * 5_000,
        "٣" * 13, "9" * 13, "9" * 400, "24:00", "2026-W01", "2026-02-30T00:00:00Z",
        "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "2026-01-31T24:00:00Z",
        "firing", "resolved", "Recovered", "$ALERT_ID", "incident.triggered", "incident.resolved",
        "incident.reopened", "merge_resolve_reason",
    ]),
)  # fmt: skip
LEAF = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(10**400), 10**400), st.floats(), TEXT
)
JSON = st.recursive(
    LEAF, lambda of: st.lists(of, max_size=4) | st.dictionaries(TEXT, of, max_size=4), max_leaves=12
)


def places(whole: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a message, itself first."""
    inside = (
        whole.items() if isinstance(whole, dict)
        else enumerate(whole) if isinstance(whole, list) else ()
    )  # fmt: skip
    return [path, *(place for key, part in inside for place in places(part, (*path, key)))]


@st.composite
def nearly_right(draw: st.DrawFn, right: Any) -> Any:
    """A real message with up to three places replaced, taken out or added to."""
    changed = copy.deepcopy(right)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(changed)))
        value = draw(JSON)
        if not path:
            if draw(st.booleans()):
                return value
            continue
        holder = changed
        for key in path[:-1]:
            holder = holder[key]
        what = draw(st.sampled_from(["replace", "remove", "add"]))
        if what == "remove":
            del holder[path[-1]]
        elif what == "add" and isinstance(holder, dict):
            holder[draw(TEXT)] = value
        else:
            holder[path[-1]] = value
    return changed


def expected(source: str, body: Any) -> int:
    """How many alerts a message that can be read has to yield."""
    if source in ("alertmanager", "grafana", "generic"):
        return len(body["alerts"])
    if source == "datadog":
        return 1
    told, kind = body["event"], body["event"]["event_type"]
    reason = told["data"].get("resolve_reason") if isinstance(told.get("data"), dict) else None
    merged = isinstance(reason, dict) and reason.get("type") == "merge_resolve_reason"
    if kind == "incident.resolved" and merged:
        return 0
    return int(kind in pagerduty.OPEN or kind in ("incident.reopened", "incident.resolved"))


def check(source: str, body: Any) -> None:
    said: tuple[str, bool] | None = None
    try:
        parsed = PARSERS[source][0](body)
    except UnreadableEnvelope as refused:
        said = (refused.field.split(".")[0], bool(str(refused)))
    else:
        kept_whole(source, body, parsed)
    assert said in (None, ("body", True))


def kept_whole(source: str, body: Any, parsed: list[Parsed]) -> None:
    assert len(parsed) == expected(source, body)
    for item in parsed:
        alert = item.alert
        assert (alert.source, len(alert.fingerprint) <= 200) == (source, True)
        assert alert.name
        assert alert.starts_at.tzinfo is not None
        assert len(alert.labels) <= MOST_LABELS
        kept = [alert.name, alert.fingerprint, *alert.labels, *alert.labels.values()]
        for text in (*kept, *alert.annotations.values()):
            assert len(text) <= 11 * LONGEST_TEXT
            assert all(line.isprintable() for line in text.split("\n"))
        alert.model_dump_json().encode()


@pytest.mark.parametrize("source", PARSERS)
def test_no_message_makes_a_parser_fail_and_no_alert_of_one_is_lost(source: str) -> None:
    @hypothesis.settings(
        deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(body=st.one_of(nearly_right(PARSERS[source][1]), JSON))
    def holds(body: Any) -> None:
        check(source, body)

    holds()


@hypothesis.settings(deadline=None, database=None)
@hypothesis.given(
    st.one_of(
        st.binary(max_size=200),
        JSON.map(lambda body: json.dumps(body).encode()),
        st.integers(1, 60).map(lambda depth: b"[" * depth + b"]" * depth),
        st.integers(1, 60).map(lambda depth: b'{"a":' * depth + b"1" + b"}" * depth),
    )
)
def test_bytes_are_json_or_refused(body: bytes) -> None:
    with contextlib.suppress(UnreadableEnvelope):
        content = message_of(body)
        for source in PARSERS:
            check(source, content)
