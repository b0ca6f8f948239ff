"""Datadog's monitors, by the payload that api/README.md tells to paste."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.incident import Alert
from api.alerts.datadog import FIRING, TEMPLATE, parse
from api.app import create_app
from api.settings import Settings
from tests.api.senders import transition
from tests.api.serving import serving
from tests.api.test_alerts import incident, opened


def alert_of(message: Any) -> Alert:
    (parsed,) = parse(message)
    assert parsed.problem == ""
    return parsed.alert


async def test_a_monitor_from_its_alert_over_reminders_to_its_recovery(
    settings: Callable[..., Settings],
) -> None:
    """Every notification has a date of its own; the cycle is what they have in common."""
    async with serving(create_app(settings(), worker=False)) as client:
        (one,) = await opened(client, transition(), "datadog")
        assert one["created"]
        shown = await incident(client, one["id"])
        assert (shown["target"], shown["title"]) == ("cache-eu", "Redis memory is high")
        for what, date in (("Renotify", "1769832000000"), ("Re-Triggered", "1769835600000")):
            (again,) = await opened(client, transition(what, date=date), "datadog")
            assert again == {**one, "created": False}
        assert len((await incident(client, one["id"]))["alerts"]) == 1
        await opened(client, transition("Recovered", date="1769839200000"), "datadog")
        (alert,) = (await incident(client, one["id"]))["alerts"]
        assert alert["status"] == "resolved"
        assert (alert["starts_at"], alert["ends_at"]) == (
            "2026-01-31T03:00:00Z", "2026-01-31T06:00:00Z",
        )  # fmt: skip
        late = transition("Re-Triggered", date="1769838000000")
        await opened(client, late, "datadog")
        assert (await incident(client, one["id"]))["alerts"] == [alert], "it is over"


async def test_an_alert_and_its_reminder_that_are_stored_together_are_one(
    settings: Callable[..., Settings], url: str
) -> None:
    """Both wait while another is being stored, and go into one transaction."""
    async with serving(create_app(settings(url), worker=False)) as client:
        together = (
            transition("Triggered", cycle="0", date=at(0)),
            transition("Triggered", cycle="1", date=at(1)),
            transition("Renotify", cycle="1", date=at(2)),
        )
        answers = await asyncio.gather(*(opened(client, one, "datadog") for one in together))
        alerts = (await incident(client, answers[0][0]["id"]))["alerts"]
        assert len(alerts) == 2


async def test_a_warning_that_becomes_an_alert_is_critical_and_stays_so(
    settings: Callable[..., Settings],
) -> None:
    """It is the same cycle, so the same alert: what it says last is worse."""
    async with serving(create_app(settings(), worker=False)) as client:
        seen = []
        for what in ("Warn", "Triggered", "Re-Warn"):
            (one,) = await opened(client, transition(what, priority=""), "datadog")
            shown = await incident(client, one["id"])
            (alert,) = shown["alerts"]
            seen.append((shown["severity"], alert["severity"]))
        assert seen == [("warning", "warning"), ("critical", "critical"), ("critical", "critical")]


async def test_what_is_over_makes_nothing_worse(settings: Callable[..., Settings]) -> None:
    """Late messages of a cycle that ended, while the next one's warning is open."""
    async with serving(create_app(settings(), worker=False)) as client:
        for what, cycle, minute in (
            ("Warn", "1", 0), ("Warn", "2", 9), ("Recovered", "1", 5), ("Triggered", "1", 4),
        ):  # fmt: skip
            message = transition(what, cycle=cycle, date=at(minute), priority="")
            (one,) = await opened(client, message, "datadog")
        shown = await incident(client, one["id"])
        assert shown["severity"] == "warning"
        assert [alert["status"] for alert in shown["alerts"]] == ["resolved", "firing"]


def at(minute: int) -> str:
    return str(1_769_828_400_000 + minute * 60_000)


async def test_a_monitor_that_flaps_is_counted(settings: Callable[..., Settings], url: str) -> None:
    """Each time is a cycle of its own, with reminders; and one's end nobody tells."""
    async with serving(create_app(settings(url), worker=False)) as client:
        for cycle in range(4):
            for what, minute in (("Triggered", 0), ("Renotify", 2), ("Recovered", 4)):
                if (cycle, what) != (2, "Recovered"):
                    date = at(cycle * 10 + minute)
                    message = transition(what, cycle=str(cycle), date=date)
                    (one,) = await opened(client, message, "datadog")
        alerts = (await incident(client, one["id"]))["alerts"]
        assert [(alert["flaps"], alert["status"]) for alert in alerts] == [
            (0, "resolved"), (1, "resolved"), (2, "resolved"), (2, "resolved"),
        ]  # fmt: skip


async def test_an_end_before_its_beginning_starts_nothing(
    settings: Callable[..., Settings],
) -> None:
    async with serving(create_app(settings(), worker=False)) as client:
        for what, cycle, minute in (("Recovered", "1", 5), ("Triggered", "1", 1)):
            assert await opened(
                client, transition(what, cycle=cycle, date=at(minute)), "datadog"
            ) == []  # fmt: skip
        (one,) = await opened(client, transition(cycle="2", date=at(6)), "datadog")
        assert one["created"]


async def test_groups_of_one_monitor_are_different_alerts(
    settings: Callable[..., Settings],
) -> None:
    async with serving(create_app(settings(), worker=False)) as client:
        eu = await opened(client, transition(), "datadog")
        us = await opened(client, transition(scope="instance:cache-us"), "datadog")
        assert {one["id"] for one in eu} != {one["id"] for one in us}
        shown = await incident(client, us[0]["id"])
        assert shown["target"] == "cache-us"


def test_the_group_that_alerts_goes_before_other_tags() -> None:
    assert alert_of(transition()).labels == {
        "monitor": "148275309", "cycle": "7716548234011234567", "host": "i-0abc",
        "metric": "redis.mem.used",
        "instance": "cache-eu", "env": "prod", "service": "checkout",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "severity"),
    [
        ({}, "critical"),
        ({"priority": "P3"}, "warning"),
        ({"priority": "$ALERT_PRIORITY"}, "critical"),
        ({"priority": "", "transition": "Warn"}, "warning"),
        ({"tags": "severity:info"}, "info"),
    ],
)
def test_how_bad_it_is(fields: dict[str, Any], severity: str) -> None:
    assert alert_of(transition(**fields)).severity == severity


@pytest.mark.parametrize("what", [*FIRING, "Triggered", "No Data"])
def test_every_transition_but_the_recovery_fires(what: str) -> None:
    assert alert_of(transition(what)).status == "firing"


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (transition("Null"), "transition"),
        (transition("$ALERT_TRANSITION"), "transition"),
        (transition(alert_id=""), "alert_id"),
        (transition(cycle="$ALERT_CYCLE_KEY"), "cycle"),
        (transition(title=None), "title"),
        (transition(date="yesterday"), "date"),
        (transition(date="99999999999999999"), "date"),
        (transition(date=["1769828400000"]), "date"),
    ],
)
def test_what_cannot_be_read_is_kept_for_a_person(message: Any, told: str) -> None:
    (parsed,) = parse(message)
    assert told in parsed.problem


def test_the_readme_shows_the_template() -> None:
    blocks = re.findall(r"```json\n(.+?)```", Path("api/README.md").read_text(), re.DOTALL)
    assert TEMPLATE in [json.loads(block) for block in blocks]
