"""Alert intake: what real senders send, and what nobody should."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from httpx2 import AsyncClient

from api import metrics
from api.alerts import alertmanager
from api.alerts.parsed import MOST_ALERTS
from api.settings import Settings

ZERO = "0001-01-01T00:00:00Z"


def firing(fingerprint: str = "f1", **fields: Any) -> dict[str, Any]:
    """An alert as Alertmanager 0.28 sends it."""
    alert = {
        "status": "firing",
        "labels": {"alertname": "RedisMemoryHigh", "instance": "cache-eu", "severity": "critical"},
        "annotations": {"summary": "memory above 85 %"},
        "startsAt": "2026-01-31T03:00:00.123456789Z",
        "endsAt": ZERO,
        "generatorURL": "http://prometheus.example/graph",
        "fingerprint": fingerprint,
    }
    return alert | fields


def message(*alerts: Any, **fields: Any) -> dict[str, Any]:
    envelope: dict[str, Any] = {
        "version": "4",
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "redis-oncall",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example",
        "alerts": list(alerts),
    }
    return envelope | fields


async def post(client: AsyncClient, body: Any, source: str = "alertmanager") -> httpx2.Response:
    return await client.post(f"/v1/alerts/{source}", json=body)


async def opened(client: AsyncClient, body: Any, source: str = "alertmanager") -> list[Any]:
    response = await post(client, body, source)
    assert response.status_code == 202, response.text
    incidents: list[Any] = response.json()["incidents"]
    return incidents


async def incident(client: AsyncClient, incident_id: str) -> dict[str, Any]:
    shown: dict[str, Any] = (await client.get(f"/v1/incidents/{incident_id}")).json()
    return shown


@pytest.mark.parametrize("source", ["alertmanager", "grafana"])
async def test_a_firing_alert_opens_an_incident_on_the_matching_target(
    client: AsyncClient, source: str
) -> None:
    (one,) = await opened(client, message(firing(), unknown_field=[1]), source)
    assert (one["status"], one["created"]) == ("queued", True)
    shown = await incident(client, one["id"])
    assert (shown["target"], shown["severity"]) == ("cache-eu", "critical")
    assert shown["title"] == "RedisMemoryHigh"
    (alert,) = shown["alerts"]
    assert (alert["source"], alert["ends_at"]) == (source, None)
    assert alert["starts_at"].startswith("2026-01-31T03:00:00.123456")


async def test_alertmanagers_repetition_is_the_same_incident(client: AsyncClient) -> None:
    first = await opened(client, message(firing()))
    again = await opened(client, message(firing(), firing()))
    assert again == [{**first[0], "created": False}]


async def test_two_alerts_of_one_target_are_one_incident_and_of_two_are_two(
    client: AsyncClient,
) -> None:
    other = {"alertname": "RedisDown", "instance": "cache-us"}
    found = await opened(client, message(firing("a"), firing("b"), firing("c", labels=other)))
    assert len(found) == 2
    targets = [(await incident(client, one["id"]))["target"] for one in found]
    assert sorted(targets) == ["cache-eu", "cache-us"]


async def test_the_most_specific_match_wins(
    settings: Callable[..., Settings], client: AsyncClient
) -> None:
    from api.alerts.alertmanager import parse
    from api.alerts.placing import target_for

    targets = [
        {"name": "any", "url": "redis://h", "match": {"team": "a"}},
        {"name": "exact", "url": "redis://h", "match": {"team": "a", "instance": "x"}},
        {"name": "none", "url": "redis://h"},
    ]
    configured = settings(targets=targets).agent_targets()

    def chosen(**labels: str) -> str | None:
        (parsed,) = parse(message(firing(labels={"alertname": "A"} | labels)))
        target = target_for(parsed.alert, configured)
        return target.name if target else None

    assert chosen(team="a", instance="x") == "exact"
    assert chosen(team="a", instance="y") == "any"
    assert chosen(instance="x") is None


async def test_an_alert_that_matches_no_target_is_kept_for_a_person(client: AsyncClient) -> None:
    stray = message(firing(labels={"alertname": "RedisDown", "instance": "nobody knows"}))
    (one,) = await opened(client, stray)
    assert one["status"] == "needs_human"
    shown = await incident(client, one["id"])
    assert shown["target"] == ""
    assert "instance=nobody knows" in shown["ended_because"]
    assert (await opened(client, stray))[0] == {**one, "created": False}


MALFORMED = [
    ({"status": "firing"}, "labels.alertname"),
    (firing(status="exploding"), "status"),
    (firing(startsAt="yesterday"), "startsAt"),
    (firing(startsAt=None), "startsAt"),
    (firing(startsAt=ZERO), "startsAt"),
    (firing(startsAt="2026-01-31T03:00:00"), "no time zone"),
    (firing(startsAt="9999-12-31T23:59:59-23:00"), "startsAt"),
    (firing(startsAt="9999-12-31T23:30:00Z"), "startsAt"),
    (firing(startsAt="0002-01-01T00:00:00Z"), "startsAt"),
    (firing(status="resolved", endsAt="9999-12-31T23:30:00Z"), "endsAt"),
    (firing(startsAt=17), "startsAt"),
    (firing(labels=["a"]), "labels"),
    (firing(labels={"alertname": {"a": 1}}), "labels"),
    (firing(annotations="text"), "annotations"),
    ("text", "not an object"),
    (None, "not an object"),
    (["nested"], "not an object"),
]


@pytest.mark.parametrize(("bad", "told"), MALFORMED)
async def test_one_malformed_alert_goes_to_a_person_and_spoils_nothing_else(
    client: AsyncClient, bad: Any, told: str
) -> None:
    """Alertmanager drops a whole batch that is answered with 4xx."""
    found = await opened(client, message(firing(), bad))
    statuses = {one["id"]: one["status"] for one in found}
    assert sorted(statuses.values()) == ["needs_human", "queued"]
    shown = [await incident(client, incident_id) for incident_id in statuses]
    (unread,) = [one for one in shown if one["status"] == "needs_human"]
    assert told in unread["ended_because"]
    again = await opened(client, message(bad))
    assert again == [{"id": unread["id"], "status": "needs_human", "created": False}]


@pytest.mark.parametrize(
    "body",
    [[], "text", 17, None, {}, {"alerts": None}, {"alerts": {"a": 1}}],
)
@pytest.mark.parametrize("source", ["alertmanager", "grafana", "generic"])
async def test_an_unreadable_envelope_is_the_senders_mistake(
    client: AsyncClient, source: str, body: Any
) -> None:
    response = await post(client, body, source)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    (error,) = response.json()["errors"]
    assert error["field"].startswith("body")
    assert error["message"]


async def test_a_script_that_sends_too_many_is_told_to_send_several_messages(
    client: AsyncClient,
) -> None:
    response = await post(client, {"alerts": [1] * 2_001}, "generic")
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["field"] == "body.alerts"
    assert "send several messages" in error["message"]


@pytest.mark.parametrize("source", ["alertmanager", "grafana"])
def test_of_a_message_that_is_too_long_the_most_urgent_alerts_are_taken(source: Any) -> None:
    """Alertmanager drops what is answered with 422: thousands of alerts, critical ones, too."""
    critical = firing("worst", labels={"alertname": "RedisDown", "severity": "critical"})
    labels = {"alertname": "RedisSlow", "severity": "warning"}
    warnings = [firing(f"w{number}", labels=labels) for number in range(MOST_ALERTS)]
    over = [{**firing(f"r{number}"), "status": "resolved"} for number in range(40)]
    body = message(*over, 17, *warnings, critical, truncatedAlerts=5)
    taken = alertmanager.parse(body, source)
    assert len(taken) == MOST_ALERTS
    assert taken[0].alert.fingerprint == "worst"
    assert taken[1].problem, "what cannot be read comes before what is over"
    assert {item.alert.status for item in taken} == {"firing"}
    assert alertmanager.truncated(body) == 5 + 42
    assert taken[0].alert.annotations["truncated"].startswith("47 more alerts")


async def test_text_that_is_not_json_is_told_as_a_problem(client: AsyncClient) -> None:
    response = await client.post(
        "/v1/alerts/alertmanager", content=b"{", headers={"content-type": "application/json"}
    )
    assert response.status_code == 422
    assert response.json()["errors"]


async def test_an_empty_message_is_accepted(client: AsyncClient) -> None:
    assert await opened(client, message()) == []


async def test_resolution_closes_an_incident_that_waits_for_nothing(client: AsyncClient) -> None:
    stray = {"alertname": "RedisDown", "instance": "nobody knows"}
    (one,) = await opened(client, message(firing(labels=stray)))
    over = firing(labels=stray, status="resolved", endsAt="2026-01-31T04:00:00Z")
    (closed,) = await opened(client, message(over))
    assert (closed["id"], closed["status"]) == (one["id"], "closed")
    (alert,) = (await incident(client, one["id"]))["alerts"]
    assert (alert["status"], alert["ends_at"]) == ("resolved", "2026-01-31T04:00:00Z")


async def test_firing_and_resolved_in_one_message(client: AsyncClient) -> None:
    over = firing("f2", status="resolved", endsAt="2026-01-31T04:00:00Z")
    found = await opened(client, message(over, firing()))
    assert len(found) == 1, "a resolution of something never seen opens nothing"
    assert len((await incident(client, found[0]["id"]))["alerts"]) == 1


@pytest.mark.parametrize("end", ["", "\x00", "\n", " ", "é"])
async def test_fingerprints_that_begin_alike_are_different_alerts(
    client: AsyncClient, end: str
) -> None:
    """Scripts put whole label sets there: none may be cut, or the second alert is lost."""
    alerts = [firing("f" * 250 + letter + end) for letter in "ab"] + [firing("f"), firing("f\x00")]
    (one,) = await opened(client, message(*alerts))
    kept = (await incident(client, one["id"]))["alerts"]
    assert len({alert["fingerprint"] for alert in kept}) == 4
    (again,) = await opened(client, message(*alerts))
    assert (await incident(client, again["id"]))["alerts"] == kept


async def test_generic_alerts(client: AsyncClient) -> None:
    alert = {
        "name": "slow", "status": "firing", "fingerprint": "x", "starts_at": "2026-01-31T03:00:00Z",
        "labels": {"instance": "cache-us"}, "annotations": {"runbook": "r"},
    }  # fmt: skip
    nameless = {k: v for k, v in alert.items() if k != "name"}
    found = await opened(client, {"alerts": [alert, nameless]}, "generic")
    assert sorted(one["status"] for one in found) == ["needs_human", "queued"]
    without_fingerprint = {k: v for k, v in alert.items() if k != "fingerprint"}
    first = await opened(client, {"alerts": [without_fingerprint]}, "generic")
    assert await opened(client, {"alerts": [without_fingerprint]}, "generic") == first


async def test_hostile_text_is_kept_printable_and_bounded(client: AsyncClient) -> None:
    nasty = 'x\x00\x1b[2J\u202e\ud800<script>"' + "y" * 50_000
    raw = firing(
        labels={"alertname": nasty, "instance": "cache-eu", nasty: "v"},
        annotations={"summary": "a\nb" + nasty}, fingerprint=nasty,
    )  # fmt: skip
    response = await client.post(
        "/v1/alerts/alertmanager",
        content=json.dumps(message(raw, {"labels": nasty})).encode(),
        headers={"content-type": "application/json"},
    )
    assert response.status_code == 202, response.text
    for one in response.json()["incidents"]:
        shown = await incident(client, one["id"])
        text = json.dumps(shown, ensure_ascii=False)
        assert text.isprintable()
        assert len(text) < 30_000


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_that_is_too_large_is_refused(client: AsyncClient, announced: bool) -> None:
    body = b'{"alerts": "' + b"x" * (2 * 1024 * 1024) + b'"}'

    async def pieces() -> Any:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    response = await client.post(
        "/v1/alerts/generic",
        content=body if announced else pieces(),
        headers={"content-type": "application/json"},
    )
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"


async def test_what_a_sender_left_out_is_said_where_people_and_machines_look(
    client: AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """`max_alerts` of a receiver cuts messages off: the rest is nowhere else."""
    counted = metrics.TRUNCATED.labels(source="alertmanager")
    before = counted._value.get()
    (one,) = await opened(client, message(firing(), truncatedAlerts=7))
    (alert,) = (await incident(client, one["id"]))["alerts"]
    assert alert["annotations"]["truncated"].startswith("7 more alerts")
    assert counted._value.get() == before + 7
    assert '"left_out": 7' in capsys.readouterr().err
    for harmless in (0, -3, True, "many", None, [7]):
        await opened(client, message(firing("f2"), truncatedAlerts=harmless))
    assert counted._value.get() == before + 7


async def test_a_source_that_does_not_exist_is_not_found(client: AsyncClient) -> None:
    response = await post(client, {"alerts": []}, "nagios")
    assert response.status_code == 404
    assert "/openapi.json" in response.json()["detail"]
    assert response.headers["content-type"] == "application/problem+json"
