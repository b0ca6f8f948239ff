"""The post-incident report: complete, and nothing from outside becomes markup."""

import re
from datetime import UTC, datetime
from html import escape as html_escape
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from agent.incident import Incident
from agent.report import escape, fenced, render_report

AT = datetime(2026, 1, 31, 3, tzinfo=UTC).isoformat()
NASTY = (
    "<script>alert(1)</script> [a](javascript:x) ![i](http://evil/i) `c` **b** # h\n\n# Head\n"
    "| t | <img src=x onerror=y> & &lt; \\ ```\nhttp://evil.example user@evil.example \x1b[2J\u202e"
)


def incident(text: str) -> Incident:
    fact = {"name": text, "evidence": "E1", "op": "ratio", "of": ["used", "limit"], "value": 0.5,
            "unit": "ratio"}  # fmt: skip
    action: dict[str, Any] = {
        "id": "A1", "fingerprint": "a" * 64, "kind": "k", "title": text, "arguments": {},
        "risk": "R1", "commands": [["CONFIG", "SET", text]], "predicted_effect": text,
        "verification": text, "rollback": text, "never_touches": text, "comment": text,
        "approvals": [{"by": text, "role": "admin", "at": AT, "comment": text}],
        "outcome": {"before": {text: 1}, "after": {text: 2}}, "status": "verified",
    }  # fmt: skip
    return Incident.model_validate({
        "id": "inc-1", "status": "resolved", "severity": "critical", "title": text, "target": text,
        "question": text, "opened_at": AT, "updated_at": AT, "ended_because": text,
        "alerts": [{"source": "generic", "name": text, "fingerprint": text, "starts_at": AT,
                    "ends_at": AT, "labels": {text: text}}],
        "diagnosis": {
            "root_cause": "x", "title": text, "is_incident": True, "confidence": 0.8,
            "summary": text, "culprit": {"kind": "prefix", "name": text},
            "contributing": [text], "claims": [{"text": text, "facts": [fact]}],
            "alternatives": [{"root_cause": "y", "confidence": 0.1, "why_not": text}],
            "not_measured": [text], "hypothesis": {"title": text, "claims": []},
            "overruled": {"reasoner": text, "root_cause": "z", "confidence": 0.3, "reason": text},
        },
        "plan": {"actions": [action], "prevention": [text], "checklist": [
            {"runbook": "r", "text": text, "result": "fail", "because": text, "evidence": ["E1"]}]},
        "evidence": [{"id": "E1", "tool": "t", "args": {"key": text}, "node": text,
                      "summary": text, "taken_at": AT}],
        "runbooks": [{"id": "r", "why": text}],
    })  # fmt: skip


def rendered(markdown: str) -> str:
    """As a viewer shows it that allows HTML and turns addresses into links."""
    viewer = MarkdownIt("commonmark", {"html": True, "linkify": True}).enable(["linkify", "table"])
    return str(viewer.render(markdown))


def visible(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", html))


def test_every_part_of_an_incident_is_in_it() -> None:
    report = render_report(incident("word"), [("alice", "no-incident", "it was a test")])
    for heading in (
        "# word", "## Root cause", "## Claims and their evidence", "## Alternatives considered",
        "## Not measured", "## Actions", "### A1: word", "## Timeline", "## Production checklist",
        "## Follow-ups", "## Evidence", "## Verdicts", "## Cost of the investigation",
    ):  # fmt: skip
        assert f"\n{heading}\n" in f"\n{report}", heading
    shown = visible(rendered(report))
    assert "word = 50.0 % (ratio of E1: used, limit)" in shown
    assert "Before: word 1" in shown
    assert "After: word 2" in shown
    assert "alice: no-incident: it was a test" in shown
    assert "2026-01-31 03:00:00 UTC A1 approved by word" in shown


def test_an_incident_without_anything_still_has_a_report() -> None:
    bare = Incident.model_validate(
        {"id": "inc-1", "status": "queued", "severity": "info", "title": "t", "target": "",
         "opened_at": AT, "updated_at": AT}
    )  # fmt: skip
    assert "No diagnosis was made." in render_report(bare)


def test_hostile_text_stays_text_everywhere() -> None:
    plain, nasty = render_report(incident("word")), render_report(incident(NASTY))
    assert nasty.replace("\n", "").isprintable()
    html = rendered(nasty)

    def tags(text: str) -> list[str]:
        return re.findall(r"</?[a-z0-9]+", text)

    assert tags(html) == tags(rendered(plain)), "hostile text changed the structure"


@given(
    st.text(max_size=200)
    | st.text(alphabet=" \t\n_*`~[]()<>&#+-=|!\\\\:/.@'\"1a9http", max_size=40)
)
@example("http://a.example/x_y www.evil.example a@b.example")
@example("1. one")
@example("--- ___ ***")
@example("used_memory __init__ _a_")
def test_escaped_text_is_shown_as_it_was_and_nothing_else(text: str) -> None:
    from tools.reading import printable

    html = rendered(f"x {escape(text)} y").strip()
    expected = html_escape(f"x {printable(' '.join(text.split()), 2_000)} y", quote=False)
    assert re.sub(r"\s+", " ", html.replace("&quot;", '"')) == (
        "<p>" + re.sub(r"\s+", " ", expected).strip() + "</p>"
    )


@given(st.lists(st.text(alphabet="`~ a\n", max_size=30), min_size=1, max_size=4))
def test_nothing_ends_a_code_block_from_inside(lines: list[str]) -> None:
    html = rendered("\n".join([*fenced(lines), "", "after"]))
    assert html.count("<pre>") == 1
    assert html.rstrip().endswith("</code></pre>\n<p>after</p>")


def test_ordinary_text_stays_readable_in_the_source() -> None:
    text = "96.1 % of used_memory (96.1 MiB) - more than maxmemory-policy allows!"
    assert escape(text) == text
