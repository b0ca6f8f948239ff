"""What a message says, and that no name in it does anything wherever it is shown."""

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import pytest
import requests

from agent.incident import Action, Incident
from api.addresses import Address, threaded
from api.routes import Route, Routes
from api.store.notices import Notice
from api.wording import Links, Message, Subject, digest, harmless, message
from tests.api.report_samples import sample

AT = datetime(2026, 1, 31, 3, tzinfo=UTC)
HOSTILE = (
    "k<!channel> <@U1> @everyone @here [pay](http://evil.example/x) <http://evil.example|ok> "
    "www.evil.example <a href='x'>y</a> <script>x</script> \x1b[31m\r\n\u202e \x00 "
    "redis://u:hunter2@h:1"
)
NEVER = ("<!", "<@", "@everyone", "@here", "://evil", "www.evil", "](", "<a ", "<script", "\x1b",
         "\u202e", "\x00", "hunter2")  # fmt: skip


def notice(kind: str, number: int = 1, **facts: Any) -> Notice:
    told = {"attempt": 1, "because": HOSTILE} | facts
    return Notice(number, "inc-1", None, kind, told, 2, AT, 0)


def subject(text: str = HOSTILE, status: str = "verified", **outcome: Any) -> Subject:
    incident = sample(text, status)
    action: Action = incident.plan.actions[0]
    action = action.model_copy(update={"outcome": action.outcome | outcome})
    return Subject(incident, {(1, action.id): action})


def every_kind() -> list[Notice]:
    kinds = ("opened", "diagnosis", "approval", "needs_human", "over", "page")
    of_actions = {"lapsed": "lapsed", "verified": "verified", "rolled_back": "rolled_back",
                  "went_wrong": "rollback_failed"}  # fmt: skip
    told = [notice(kind, number) for number, kind in enumerate(kinds)]
    return told + [notice(kind, action="A1", status=status) for kind, status in of_actions.items()]


def test_whatever_a_name_is_called_it_is_only_shown() -> None:
    links = Links("https://oncall.example.com")
    for said in (
        message(every_kind(), subject(), links),
        message(every_kind(), subject(status="proposed"), links),
        digest(every_kind(), {"inc-1": (HOSTILE, HOSTILE, "critical")}, links),
        message([notice("page")], None, links),
    ):
        text = f"{said.title}\n{said.body}".replace("https://oncall.example.com", "")
        assert "evil[.]example" not in text
        assert [bad for bad in NEVER if bad in text] == []
        assert len(said.body) <= 3_000
    assert harmless("user@host at redis://h") == "user\uff20host at redis[:]//h"


def test_a_long_one_is_cut_in_the_middle_and_keeps_its_link() -> None:
    said = message(every_kind(), subject("x" * 900), Links("https://o"), 600)
    assert len(said.body) <= 600
    *_, mark, empty, at, link = said.body.splitlines()
    assert (mark, empty, at) == ("\u2026", "", "at 2026-01-31 03:00:00 UTC")
    assert link.startswith("https://o/incidents/")


@pytest.mark.parametrize(
    ("undo", "said"),
    [
        ({"verified": True, "because": "x"}, "it is as it was"),
        ({"verified": False, "because": "maxmemory is 1mb"}, "NOT as it was: maxmemory is 1mb"),
        ({"verified": None, "because": "no answer"}, "is not known: no answer"),
    ],
)
def test_whether_it_is_undone_is_said(undo: dict[str, Any], said: str) -> None:
    told = [notice("rolled_back", action="A1", status="rolled_back", because="slower")]
    body = message(told, subject("t", undo=undo), Links()).body
    assert "A1 (t) did not help and was undone: slower" in body
    assert said in body


def test_what_worked_is_told_with_numbers() -> None:
    told = [notice("verified", action="A1", status="verified", because="")]
    body = message(told, subject("t"), Links()).body
    assert "memory_info.pressure from 93.0 % to 61.0 t" in body


def test_after_an_action_the_others_are_not_forgotten() -> None:
    told = [notice("verified", action="A1", status="verified", because="it is at 51 %")]
    incident = subject("t").incident
    second = incident.plan.actions[0].model_copy(update={"id": "A2", "status": "proposed"})
    plan = incident.plan.model_copy(update={"actions": [*incident.plan.actions, second]})
    waits = incident.model_copy(update={"plan": plan, "status": "awaiting_approval"})
    actions = {(1, action.id): action for action in plan.actions}
    said = message(told, Subject(waits, actions), Links())
    assert said.body.splitlines()[:3] == [
        "A1 (t) worked: it is at 51 %", "Still waits for approval: A2 R1 t", "",
    ]  # fmt: skip
    assert said.tone == "info"


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What Apprise would send: its HTTP library is asked, and nothing leaves this machine."""
    sent: list[tuple[str, str]] = []

    def send(_: Any, request: Any, **__: Any) -> requests.Response:
        sent.append((request.url, str(request.body)))
        answer = requests.Response()
        answer.status_code, answer._content = 200, _ANSWER
        answer.request = request
        return answer

    monkeypatch.setattr(requests.Session, "send", send)
    return sent


_ANSWER = b'{"ok": true, "requestId": "1", "ts": "1700000000.000100", "channel": "C1"}'
URLS = {
    "pagerduty": "pagerduty://" + "A" * 20 + "@" + "b" * 20,
    "slack": "slack://xoxb-1234-1234-abc/#general",
    "discord": "discord://123456789/abcdefghijk",
    "teams": "workflows://prod-1.westus.logic.azure.com:443/workflow/signature",
    "telegram": "tgram://123456789:abcdefghijklmnopqrstuvwxyz012345678/12345",
    "google chat": "gchat://ws/key/token",
    "mattermost": "mmost://host/" + "a" * 24,
    "opsgenie": "opsgenie://" + "a" * 36,
}


@pytest.mark.parametrize("service", URLS)
async def test_what_leaves_for_a_service_mentions_nobody_and_shows_no_pictures(
    service: str, posted: list[tuple[str, str]]
) -> None:
    address = Address.of("x", URLS[service])
    told = [notice("diagnosis"), notice("approval")]
    said = message(told, subject(status="proposed"), Links(), address.most)
    assert (await address.take(said)).accepted
    ((_, body),) = posted
    assert [bad for bad in NEVER if bad in body] == []
    assert "github" not in body
    assert "approval" in body


async def test_a_message_is_as_long_as_its_service_takes(posted: list[tuple[str, str]]) -> None:
    takes = {"teams": 1_000, "slack": 3_000, "pagerduty": 1_024 - 160}
    assert {name: Address.of("x", URLS[name]).most for name in takes} == takes
    zulip = Address.of("x", "zulip://bot@org/" + "a" * 32 + "/#c")
    assert (await zulip.take(Message("[inc-1] " + "t" * 100, "b", "info", "inc-1"))).accepted
    ((_, body),) = posted
    (topic,) = parse_qs(body)["topic"]
    assert topic == "[inc-1] " + "t" * 52, "its topics are threads, and no longer than that"


async def test_the_last_message_resolves_the_page_that_the_first_one_opened(
    posted: list[tuple[str, str]],
) -> None:
    address = Address.of("x", URLS["pagerduty"])
    for tone in ("failure", "info", "success"):
        assert (await address.take(Message("t", "b", tone, "inc-1"))).accepted
    sent = [json.loads(body) for _, body in posted]
    assert [(one["event_action"], one["dedup_key"]) for one in sent] == [
        ("trigger", "inc-1"), ("trigger", "inc-1"), ("resolve", "inc-1"),
    ]  # fmt: skip
    await address.take(Message("t", "come", "failure", "inc-1", rings=True))
    assert "dedup_key" not in json.loads(posted[-1][1]), "in an alert that is known nothing rings"


async def test_slack_gets_a_thread_and_what_somebody_has_to_do_stands_above_it(
    posted: list[tuple[str, str]],
) -> None:
    bot = Address.of("x", URLS["slack"])
    begun = (await bot.take(Message("t", "b", "info", "inc-1"))).conversation
    assert begun == "1700000000.000100"
    reply = await bot.take(Message("t", "b", "info", "inc-1"), begun)
    loud = await bot.take(Message("t", "b", "info", "inc-1", is_loud=True), begun)
    assert (reply.conversation, loud.conversation) == ("", begun)
    digested = await bot.take(Message("t", "b", "info"), begun)
    assert digested.conversation == "", "it is about others, too"
    webhook = Address.of("x", "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general")
    several = Address.of("x", URLS["slack"] + "/#other")
    for other in (webhook, several, Address.of("x", URLS["discord"])):
        assert (await other.take(Message("t", "b", "info", "inc-1"), begun)).conversation == ""
    threads = [json.loads(body).get("thread_ts") for _, body in posted]
    assert threads == [None, begun, *[None] * 6]


def test_what_an_address_says_of_threads_itself_stays() -> None:
    assert threaded("pagerduty://a@b?dedup=mine&action=trigger", "inc-1").count("dedup") == 1
    assert threaded("gchat://a/b/c?thread=mine", "inc-1") == "gchat://a/b/c?thread=mine"
    assert threaded("gchat://a/b/c", "inc-1") == "gchat://a/b/c?thread=inc-1"
    assert threaded("slack://a", "inc-1") == "slack://a"
    assert threaded("gchat://a/b/c", "") == "gchat://a/b/c"
    assert "References=%3Cinc-1%40" in threaded("mailto://a@b", "inc-1", rings=True)


def test_a_page_rings_whatever_else_is_told_with_it() -> None:
    said = [message(some, subject(), Links()) for some in (every_kind(), every_kind()[:3])]
    assert [one.rings for one in said] == [True, False]


@pytest.mark.parametrize(
    ("environment", "opened", "over"),
    [
        ("production", ["a", "c"], ["a"]),
        ("eu-live", ["a", "c"], ["a"]),
        ("staging", ["b", "c"], ["b", "c"]),
    ],
)
def test_production_is_all_that_counts_as_production(
    environment: str, opened: list[str], over: list[str]
) -> None:
    routes = Routes(
        [Route(["a"], environments=["production"]), Route(["b", "c"], environments=["staging"]),
         Route(["c"], kinds=["opened"]), Route(["d"], targets=["elsewhere"])],
        {"cache-eu": environment},
    )  # fmt: skip
    assert routes.to("opened", "info", "cache-eu") == opened
    assert routes.to("over", "info", "cache-eu") == over


def test_an_incident_of_no_target_is_named_all_the_same() -> None:
    incident: Incident = sample("T").model_copy(update={"target": ""})
    said = message([notice("opened", because="")], Subject(incident), Links())
    assert said.title == f"[{incident.id}] T"
