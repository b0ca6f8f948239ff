"""What a model may cost: every cap holds before the call, and says so in words for people."""

from datetime import UTC, datetime
from typing import Any

import pytest

from agent.budget import Budget, DayCaps, ModelSettings, Price, cost, money
from agent.context import ReasonerUnavailable
from agent.exchange import MOST_CHARACTERS, Exchange, bounded
from agent.incident import Usage

PRICE = Price(input=2.0, output=10.0, cached_input=0.5)
CALL = Usage(llm_calls=1, input_tokens=8_000, output_tokens=2_000, seconds=30, dollars=0.036)
DAY = DayCaps(calls=10, tokens=100_000, seconds=300, dollars=2.0)
UNTIL = "; until 00:00 UTC the rules decide alone"


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (Usage(input_tokens=1_000_000), 2.0),
        (Usage(output_tokens=1_000_000), 10.0),
        (Usage(input_tokens=1_000_000, cached_tokens=1_000_000), 0.5),
        (Usage(input_tokens=1_000_000, cached_tokens=400_000), 1.4),
        # An endpoint that claims more from its cache than was sent earns nothing by it.
        (Usage(input_tokens=1_000_000, cached_tokens=9_000_000), 0.5),
        (Usage(), 0.0),
    ],
)
def test_tokens_are_priced(usage: Usage, dollars: float) -> None:
    assert PRICE.dollars(usage) == pytest.approx(dollars)


def test_without_a_price_of_the_cache_its_tokens_cost_what_others_do() -> None:
    whole = Usage(input_tokens=1_000_000, cached_tokens=500_000)
    assert Price(input=2.0, output=1.0).dollars(whole) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("spent", "refusal"),
    [
        (Usage(), ""),
        (Usage(llm_calls=9, input_tokens=90_000, seconds=270, dollars=1.964), ""),
        (
            Usage(llm_calls=10),
            f"the cap of 10 model calls a day is met (10 were made){UNTIL}",
        ),
        (
            Usage(input_tokens=60_000, output_tokens=30_001),
            f"the cap of 100,000 tokens a day is met "
            f"(90,001 are spent, the next call may take 10,000){UNTIL}",
        ),
        (
            Usage(seconds=270.5),
            f"the cap of 300 s of the model a day is met "
            f"(270 s are spent, the next call may take 30 s){UNTIL}",
        ),
        (
            Usage(dollars=1.97),
            f"the cap of $2.00 a day is met "
            f"($1.97 are spent, the next call may cost $0.036){UNTIL}",
        ),
    ],
)
def test_a_day_refuses_the_call_that_would_exceed_a_cap(spent: Usage, refusal: str) -> None:
    assert DAY.refusal(spent, CALL) == refusal


def test_a_day_without_a_cap_of_dollars_refuses_none() -> None:
    assert DayCaps(calls=10, tokens=100_000, seconds=300).refusal(Usage(dollars=1e9), CALL) == ""


def settings(**given: Any) -> ModelSettings:
    return ModelSettings(**{"model": "m", "price": PRICE, **given})


@pytest.mark.parametrize(
    ("given", "spent", "request_tokens", "expected"),
    [
        ({}, Usage(), 1_000, 2_500),
        ({"max_tokens": 4_000}, Usage(), 2_000, 2_000),
        ({"max_tokens": 2_000}, Usage(), 1_900, "the cap of 2,000 tokens would be exceeded"),
        ({}, Usage(llm_calls=6), 10, "the cap of 6 model calls is met"),
        ({}, Usage(seconds=60), 10, "the cap of 60 s for the model is met"),
        # 1,000 tokens in cost 0.2 cents, which leaves 0.8 cents: 800 tokens out.
        ({"max_dollars": 0.01}, Usage(), 1_000, 800),
        ({"max_dollars": 0.01}, Usage(dollars=0.004), 1_000, 400),
        (
            {"max_dollars": 0.01},
            Usage(dollars=0.0065),
            1_000,
            "the cap of $0.01 for an incident would be exceeded ($0.0065 are spent)",
        ),
    ],
)
def test_an_incident_refuses_the_call_that_would_exceed_a_cap(
    given: dict[str, Any], spent: Usage, request_tokens: int, expected: int | str
) -> None:
    budget = Budget(settings(**given))
    budget.known(spent)
    if isinstance(expected, int):
        assert budget.answer_tokens(request_tokens) == pytest.approx(expected, abs=1)
        return
    with pytest.raises(ReasonerUnavailable) as refused:
        budget.answer_tokens(request_tokens)
    assert str(refused.value) == expected


def test_what_this_process_spent_counts_where_the_ledger_knows_less() -> None:
    budget = Budget(settings())
    budget.spend(Usage(input_tokens=30_000, output_tokens=1_000), 30_000)
    budget.known(Usage())
    assert (budget.calls, budget.tokens) == (1, 31_000)
    assert budget.dollars == pytest.approx(0.07)


class Till:
    """A ledger that notes what is set aside."""

    def __init__(self) -> None:
        self.reserved: list[tuple[str, Usage]] = []

    async def spent(self) -> Usage:
        return Usage()

    async def reserve(self, model: str, most: Usage) -> None:
        self.reserved.append((model, most))

    async def keep(self, exchange: Exchange) -> None:
        raise AssertionError("not asked for")


async def test_a_call_sets_aside_the_most_it_can_cost() -> None:
    till = Till()
    budget = Budget(settings(seconds_per_incident=20.0), till)
    assert await budget.reserve(1_000) == 2_500
    most = Usage(llm_calls=1, input_tokens=1_000, output_tokens=2_500, seconds=20.0, dollars=0.027)
    assert till.reserved == [("openai:m", most)]
    budget.calls = 6
    with pytest.raises(ReasonerUnavailable):
        await budget.reserve(1_000)
    assert len(till.reserved) == 1


@pytest.mark.parametrize(
    ("dollars", "text"),
    [(2, "$2.00"), (0.5, "$0.50"), (0.015, "$0.015"), (0, "$0.00"), (1234.5, "$1,234.50")],
)
def test_money_reads_as_people_write_it(dollars: float, text: str) -> None:
    assert money(dollars) == text


def test_usage_adds_up_and_what_has_no_price_adds_no_dollars() -> None:
    priced, unpriced = Usage(llm_calls=1, dollars=0.25, seconds=1.5), Usage(llm_calls=2)
    assert priced.plus(unpriced) == Usage(llm_calls=3, dollars=0.25, seconds=1.5)
    assert unpriced.plus(unpriced).dollars is None


def exchange(**fields: Any) -> Exchange:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    values = {"purpose": "investigation", "model": "openai:m", "at": at, "seconds": 1.0}
    return Exchange.model_validate(values | fields)


def test_an_exchange_that_is_small_enough_is_kept_as_it_was() -> None:
    usual = exchange(messages=[{"role": "user", "content": "x" * 100_000}], reply={"content": "y"})
    assert bounded(usual) == usual


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": "x" * 3_000_000}]},
        {"messages": [{"role": "tool", "content": "x" * 9_000} for _ in range(500)]},
        {"reply": {"content": "", "tool_calls": [{"id": str(n)} for n in range(100_000)]}},
        {"reply": {"x" * 1_000 + str(n): "y" * 1_000 for n in range(5_000)}},
        {"options": {str(n): [["z" * 400] * 400] * 400 for n in range(4)}},
    ],
)
def test_whatever_is_said_an_exchange_is_bounded(fields: dict[str, Any]) -> None:
    kept = bounded(exchange(**fields))
    assert len(kept.model_dump_json()) < MOST_CHARACTERS + 2_000
    assert "left out" in kept.model_dump_json() or "left_out" in kept.model_dump_json()
    assert bounded(kept) == kept


def test_one_call_and_one_look_are_not_many() -> None:
    one = Usage(llm_calls=1, tool_calls=1, input_tokens=1_234, dollars=0.5, seconds=2)
    assert cost(one) == "1 look, 2.0 s; 1 model call, 1,234 input and 0 output tokens, $0.50."
    assert cost(Usage(llm_calls=2)).startswith("0 looks, 0.0 s; 2 model calls, ")
