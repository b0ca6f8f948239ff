"""When the rules count as unsure: read off a table, and the table off the suite."""

import json
from typing import Any

import pytest

from agent.arbitration import UNSURE_BELOW
from agent.runbook_library import load_library
from evals.truth import incidents
from evals.unsure import KEPT_BELOW, TABLE, Answer, answers, table, threshold

KEPT: dict[str, Any] = json.loads(TABLE.read_text("utf-8"))
ONE_IN_SIX = pytest.approx(1 / 6, abs=0.02)
"""As the docs say."""


def share(bins: list[dict[str, Any]]) -> float:
    return float(sum(row["wrong"] for row in bins) / sum(row["n"] for row in bins))


def test_the_rules_count_as_unsure_where_they_are_wrong_too_often() -> None:
    assert threshold(KEPT["bins"]) == UNSURE_BELOW
    for bins in (KEPT["bins"], KEPT["held_back"]):
        assert share([row for row in bins if row["from"] < UNSURE_BELOW]) == ONE_IN_SIX
        assert share([row for row in bins if row["from"] >= UNSURE_BELOW]) < 0.01
    assert KEPT["no_incident"]["wrong"] / KEPT["no_incident"]["n"] == ONE_IN_SIX


def test_the_table_is_of_this_suite() -> None:
    assert KEPT["suite"] == len(incidents())
    listed = sum(len(row) for row in KEPT["unsure"].values())
    bins = [*KEPT["bins"], *KEPT["held_back"]]
    assert listed == sum(row["n"] for row in bins if row["from"] < KEPT_BELOW)


@pytest.mark.parametrize("chosen", [0, -1])
async def test_the_table_is_what_the_rules_say_today(chosen: int) -> None:
    wrong = sorted(
        name for name, rows in KEPT["unsure"].items() if not all(row[2] for row in rows.values())
    )[chosen]
    (recorded,) = incidents(wrong)
    again = table(await answers(recorded, load_library()))
    assert again["unsure"] == {wrong: KEPT["unsure"][wrong]}


def test_the_worst_model_can_do_next_to_nothing() -> None:
    """Whatever it names, of every incident, with every look refused in turn."""
    told = KEPT["any_cause"]
    assert told["answers"] > 3_900
    assert len(told["harmed"]) <= 2
    assert told["incidents_helped"] >= 25


async def test_how_it_harms_is_what_arbitration_does_today() -> None:
    name, without, *_ = KEPT["any_cause"]["harmed"][0]
    (recorded,) = incidents(name)
    again = await answers(recorded, load_library())
    rows = [row for row in KEPT["any_cause"]["harmed"] if row[0] == name]
    assert table(again)["any_cause"]["harmed"] == rows
    # Nobody could tell: what would rule the cause out is what could not be looked at.
    (blind,) = [one for one in again if one.without == without]
    assert (blind.cause, blind.right) == ("unknown", True)


def test_a_threshold_is_where_wrong_answers_become_rare() -> None:
    def given(confidence: float, wrong: int, right: int) -> list[Answer]:
        outcomes = [False] * wrong + [True] * right
        return [Answer("i", "stats", "single-bigkey", confidence, one) for one in outcomes]

    low, middle, high = given(0.2, 2, 8), given(0.65, 2, 8), given(0.95, 1, 99)
    assert threshold(table([*low, *middle, *high])["bins"]) == 0.9
    assert threshold(table([*low, *high])["bins"]) == 0.9
    assert table([*low, *high], {"i"})["held_back"] == table([*low, *high])["bins"]
    silent = [Answer("i", "stats", cause, 0.65, False) for cause in ("unknown", "no-incident")]
    assert table([*low, *silent])["bins"] == table(low)["bins"]
