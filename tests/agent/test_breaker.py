"""A dead endpoint is left alone for a while, over all incidents, and says so."""

import asyncio

import httpx
import pytest
import respx

from agent.breaker import COOL_DOWN_SECONDS, FAILURES, LONGEST_COOL_DOWN_SECONDS, Breaker
from agent.context import ReasonerUnavailable
from agent.reasoner import OpenAIReasoner
from tests.agent.desk import Desk
from tests.agent.endpoint import DONE, URL, Make, refused, reply


class Clock:
    """Time that passes when told to."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.check()
        breaker.failed("the model's endpoint answered 500")


def test_it_opens_after_failures_in_a_row_and_says_when_it_will_ask(breaker: Breaker) -> None:
    fail(breaker, FAILURES - 1)
    breaker.succeeded()
    fail(breaker, FAILURES)
    with pytest.raises(ReasonerUnavailable) as refused:
        breaker.check()
    assert "failed 3 times in a row, last: the model's endpoint answered 500" in str(refused.value)
    assert "not asked again until " in str(refused.value)


def test_after_the_cool_down_one_call_finds_out(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, FAILURES)
    clock.now += COOL_DOWN_SECONDS + 1
    breaker.check()
    with pytest.raises(ReasonerUnavailable):
        breaker.check()  # the others wait for the probe
    breaker.failed("again")
    clock.now += COOL_DOWN_SECONDS - 1
    with pytest.raises(ReasonerUnavailable, match="failed 4 times in a row, last: again"):
        breaker.check()
    clock.now += 2
    breaker.check()
    breaker.succeeded()
    breaker.check()
    breaker.check()


def test_an_endpoint_that_asks_to_be_left_alone_is_within_bounds(
    breaker: Breaker, clock: Clock
) -> None:
    breaker.failed("busy", seconds=30)
    with pytest.raises(ReasonerUnavailable, match="failed once"):
        breaker.check()
    clock.now += 31
    breaker.check()
    breaker.failed("busy", seconds=1e9)
    clock.now += LONGEST_COOL_DOWN_SECONDS
    breaker.check()


def test_three_failures_weigh_more_than_a_short_wait(breaker: Breaker, clock: Clock) -> None:
    for _ in range(FAILURES):
        breaker.failed("busy", seconds=0.5)
    clock.now += COOL_DOWN_SECONDS - 1
    with pytest.raises(ReasonerUnavailable):
        breaker.check()


async def incident(mind: OpenAIReasoner, number: int) -> str:
    desk = Desk()
    desk.incident.id = f"I{number}"
    with pytest.raises(ReasonerUnavailable) as unavailable:
        await mind.investigate(desk)
    return str(unavailable.value)


@respx.mock
async def test_a_storm_of_500_is_felt_by_a_few_incidents_only(reasoner: Make) -> None:
    respx.post(URL).mock(return_value=httpx.Response(401, text="storm"))
    mind = reasoner()
    for number in range(FAILURES):
        assert "answered 401" in await incident(mind, number)
    asked = len(respx.calls)
    said = await asyncio.gather(*(incident(mind, number) for number in range(10, 30)))
    assert all("not asked again until" in each for each in said)
    assert len(respx.calls) == asked


@pytest.mark.parametrize(
    "response",
    [
        refused("You exceeded your current quota", 429, code="insufficient_quota"),
        httpx.Response(429, text="busy", headers={"retry-after": "3600"}),
    ],
    ids=["out of quota", "asks to wait an hour"],
)
@respx.mock
async def test_what_will_not_be_better_soon_is_asked_once(
    reasoner: Make, response: httpx.Response
) -> None:
    respx.post(URL).mock(return_value=response)
    mind = reasoner()
    await incident(mind, 1)
    assert "failed once" in await incident(mind, 2)
    assert len(respx.calls) == 1


@respx.mock
async def test_a_model_that_answers_nonsense_is_alive(reasoner: Make) -> None:
    respx.post(URL).mock(return_value=reply(text="I refuse."))
    mind = reasoner(max_calls=1)
    for number in range(FAILURES + 1):
        assert "submitted nothing" in await incident(mind, number)
    respx.post(URL).mock(
        return_value=refused("The response was filtered", 400, code="content_filter")
    )
    for number in range(10, 10 + FAILURES + 1):
        assert "content filter refused the prompt" in await incident(mind, number)
    respx.post(URL).mock(return_value=reply(DONE))
    last = Desk()
    last.incident.id = "I99"
    assert await mind.investigate(last)
