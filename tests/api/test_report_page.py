"""The report as a page: what was measured is drawn, what was not is not, and nothing runs."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest
from httpx2 import AsyncClient
from hypothesis import example, given
from hypothesis import strategies as st

from agent.effects import effects
from agent.incident import Action, Incident
from agent.report import MOST_MOMENTS, render_report
from agent.report_html import content_security_policy, render_page
from api.app import create_app
from api.problems import CONTENT_SECURITY_POLICY
from api.settings import Settings
from tests.api.report_samples import AT, events, outcome, sample
from tests.api.serving import as_role, serving
from tests.api.test_incidents_api import opened
from tests.api.test_report import NASTY

NASTIEST = NASTY + " ' {{7*7}} {% x %} --> ]]> </title></style></svg> \x00\x9b31m" + "y" * 10_000


class Structure(HTMLParser):
    """The tags and attributes of a page, without its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[Any] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, sorted(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def page(text: str, **changes: Any) -> str:
    incident = sample(text).model_copy(update=changes)
    return render_page(incident, [(text, text, text)], events(text))


def test_hostile_text_changes_nothing_about_the_page_but_its_text() -> None:
    plain, nasty = Structure(page("word")), Structure(page(NASTIEST))
    assert nasty.tags == plain.tags
    assert {tag for tag, _ in plain.tags}.isdisjoint({"script", "img", "iframe", "object", "a"})
    assert nasty.text.replace("\n", "").isprintable()
    assert "alert(1)" in nasty.text
    assert len(page(NASTIEST)) < 1_000_000


@given(st.text(max_size=60))
def test_no_text_becomes_structure(text: str) -> None:
    assert Structure(page(text or "x")).tags == Structure(page("word")).tags


def test_the_page_needs_nothing_from_elsewhere_and_says_so() -> None:
    html = page("word")
    assert re.findall(r"""(?:\bsrc|href|url\(|@import|\bon\w+=|style=)""", html) == []
    assert "sha256-" in content_security_policy()
    assert "unsafe" not in content_security_policy()


def test_each_curve_says_in_words_what_it_shows() -> None:
    figures = re.findall(r"<svg.*?</svg>", page("word"), re.DOTALL)
    assert len(figures) == 3  # the number of clients stayed as it was
    for figure in figures:
        drawn = ET.fromstring(figure)
        title, desc = drawn.findtext("title"), drawn.findtext("desc")
        assert title
        assert re.match(r"From .+ before the write to .+ after it; between .+ and .+\.", desc or "")
        ids = [element.get("id") for element in drawn if element.get("id")]
        assert (drawn.get("aria-labelledby") or "").split() == ids
    assert len(set(re.findall(r'id="([^"]+)"', page("word")))) == 6


def test_what_was_measured_is_in_the_table_and_a_gap_stays_a_gap() -> None:
    (effect,) = effects(sample("word").plan.actions)
    told = {one.name: (one.before, one.after, one.verdict) for one in effect.measured}
    assert told == {
        "errors.word": ("3/s", "60/s", "worse"),
        "refused_writes": ("420/s", "3.1/s", ""),
        "pressure": ("93%", "61%", ""),
        "round_trip_ms": ("1.2 ms", "1.3 ms", ""),
    }
    assert effect.more == 2
    curves = {one.name: one.curve for one in effect.measured}
    assert curves["errors.word"] is None
    trip = curves["round_trip_ms"]
    assert trip is not None
    assert "···" in trip.sparkline
    assert len(trip.paths) == 2
    pressure = curves["pressure"]
    assert pressure is not None
    assert pressure.sparkline.startswith("█" * 13 + "|")
    assert pressure.sparkline.endswith("▁▁▁")


def test_a_little_noise_does_not_look_like_a_change() -> None:
    rows = [[float(n), 100.0 + n % 2] for n in range(-5, 6)]
    told = outcome() | {
        "series": {"columns": ["seconds", "connected_clients"], "rows": rows},
        "baseline": {"connected_clients": 100}, "after": {"connected_clients": 101},
    }  # fmt: skip
    (effect,) = effects([action_with(told)])
    curve = effect.measured[0].curve
    assert curve is not None
    assert set(curve.sparkline) == {"▄", "▅", "|"}


def action_with(told: dict[str, Any]) -> Action:
    return sample("word").plan.actions[0].model_copy(update={"outcome": told})


SHAPES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(sorted(outcome())), SHAPES, max_size=5),
    st.lists(st.lists(st.none() | st.floats() | st.integers(), max_size=3), max_size=4),
)
@example({"regressions": True, "series": {"columns": [], "rows": [[], []]}}, [])
@example({"signals": {"cleared": 5, "still": [5]}, "series": {"columns": 5, "rows": [[1]]}}, [])
@example({"baseline": {"pressure": float("nan")}, "before": 5}, [[1, float("inf")], [2, 1], [3, 2]])
def test_an_outcome_of_any_shape_has_a_report(told: dict[str, Any], rows: list[Any]) -> None:
    told = outcome() | {"series": {"columns": ["seconds", "pressure"], "rows": rows}} | told
    incident = sample("word")
    incident.plan.actions[0] = action_with(told)
    assert "nan" not in re.sub(r"<[^>]*>", "", "".join(re.findall("points=.*", page_of(incident))))
    assert render_report(incident)


def page_of(incident: Incident) -> str:
    return render_page(incident)


def test_the_timeline_tells_what_was_done_when_and_each_thing_once() -> None:
    text = unescape(re.sub(r"<[^>]*>", "", page("word")))
    for told in (
        "03:00:20 UTCdiagnosed: word", "03:00:50 UTCA1 approved: may be applied",
        "03:01:00 UTCA1 being applied", "03:01:40 UTCA1 verified: word",
        "03:01:30 UTCpeople were called: word", "03:01:50 UTCresolved: word",
    ):  # fmt: skip
        assert text.count(told) == 1, told
    assert text.count("verifying") == 1


def test_a_long_story_keeps_its_beginning_and_its_end() -> None:
    told: list[Any] = [(AT, "plan", {"actions": [{}] * n}) for n in range(1_000)]
    report = render_report(sample("word"), (), told)
    assert report.count(" UTC plan of ") < MOST_MOMENTS
    assert "more …" in report
    assert "incident opened" in report


def test_follow_ups_are_what_is_left_to_do() -> None:
    report = render_report(sample("word"))
    section = report.split("## Follow-ups")[1].split("##")[0]
    assert section.split("\n- ")[1:] == [
        "A2: word (risk R1, proposed)", "Checklist: word — word", "word\n\n",
    ]  # fmt: skip


@pytest.fixture
async def incident(client: AsyncClient) -> str:
    return str((await opened(client, "cache-eu"))["id"])


@pytest.mark.parametrize(
    ("query", "accept", "kind"),
    [
        ("", "*/*", "text/markdown"),
        ("", "text/html,application/xhtml+xml,*/*;q=0.8", "text/html"),
        ("", "text/markdown, text/html", "text/markdown"),
        ("?format=html", "*/*", "text/html"),
        ("?format=markdown", "text/html", "text/markdown"),
    ],
)
async def test_the_report_comes_as_it_is_asked_for(
    client: AsyncClient, incident: str, query: str, accept: str, kind: str
) -> None:
    response = await client.get(
        f"/v1/incidents/{incident}/report{query}", headers=as_role("viewer") | {"Accept": accept}
    )
    assert response.status_code == 200
    assert response.headers["content-type"] == f"{kind}; charset=utf-8"
    policy = response.headers.get("content-security-policy", "")
    assert policy == (content_security_policy() if kind == "text/html" else CONTENT_SECURITY_POLICY)
    assert "No diagnosis was made." in response.text


async def test_another_format_is_refused(settings: Callable[..., Settings]) -> None:
    async with serving(create_app(settings(), worker=False)) as client:
        response = await client.get("/v1/incidents/inc-1/report?format=pdf")
        assert response.status_code == 422
