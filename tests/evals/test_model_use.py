"""What a model cost a suite: counted from exchanges made by hand."""

from datetime import UTC, datetime
from typing import Any

from agent.exchange import Exchange
from agent.incident import Usage
from evals.model_use import cacheable_share, model_use

AT = datetime(2026, 1, 1, tzinfo=UTC)
SYSTEM = {"role": "system", "content": "s" * 1_000}
FUNCTIONS = {"look": {"name": "look", "description": "d" * 2_000}}


def exchange(*messages: dict[str, Any], earlier: int = 0, **given: Any) -> Exchange:
    values: dict[str, Any] = {
        "purpose": "investigation",
        "model": "openai:m",
        "at": AT,
        "seconds": 0.5,
        "earlier_messages": earlier,
        "messages": list(messages),
        "tools": ["look"],
        "reply": {"role": "assistant"},
        "usage": Usage(llm_calls=1, input_tokens=1_000, output_tokens=100),
    }
    return Exchange.model_validate(values | given)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def test_calls_tokens_dollars_and_seconds_are_those_of_the_exchanges() -> None:
    priced = Usage(
        llm_calls=1, input_tokens=3_000, output_tokens=300, cached_tokens=1_000, dollars=0.25
    )
    failed = exchange(reply=None, failure="503", usage=Usage(llm_calls=1))
    first = [exchange(SYSTEM), exchange(usage=priced, seconds=1.5)]
    use = model_use([first, [exchange(SYSTEM)], [exchange(SYSTEM), failed, failed]], FUNCTIONS)
    assert use["calls_an_incident"] == {"median": 2, "max": 3}
    assert use["input_tokens_in_a_call"] == {"median": 1_000, "max": 3_000}
    assert use["tokens_an_incident"] == {"median": 1_100, "max": 4_400}
    assert use["seconds_added"] == {"median": 1.5, "max": 2.0}
    assert (use["dollars"], use["failed_calls"]) == (0.25, 2)
    assert use["cached_share"] == round(1_000 / 6_000, 4)


def test_nothing_is_known_of_no_exchanges() -> None:
    use = model_use([[], []], FUNCTIONS)
    assert (use["cacheable_share"], use["cached_share"], use["dollars"]) == (None, None, None)
    assert use["input_tokens_in_a_call"] == {}
    assert use["calls_an_incident"] == {"median": 0, "max": 0}


def test_a_cache_serves_what_begins_like_an_earlier_request() -> None:
    """Functions first, then messages; of this conversation or of another incident's."""
    alone = [exchange(SYSTEM, user("a" * 1_000))]
    assert cacheable_share([alone], FUNCTIONS) == 0.0
    longer = [*alone, exchange(user("b" * 4_000), earlier=2)]
    same_conversation = cacheable_share([longer], FUNCTIONS)
    assert same_conversation is not None
    assert 0.30 < same_conversation < 0.36  # 4,000 of 12,000 and some marks
    another_incident = cacheable_share([alone, [exchange(SYSTEM, user("c" * 1_000))]], FUNCTIONS)
    assert another_incident is not None
    assert 0.35 < another_incident < 0.40  # 3,000 of 8,000


def test_other_functions_before_the_messages_leave_nothing_to_serve() -> None:
    fewer = exchange(user("b"), earlier=2, tools=["submit"])
    share = cacheable_share([[exchange(SYSTEM, user("a")), fewer]], FUNCTIONS)
    assert share is not None
    assert share < 0.01
