"""JSON in the text of a model that likes to talk."""

import json
from typing import Any

import pytest

from agent.json_in_text import MOST_CALLS, calls_in, objects_in, values_in, without_thoughts

NAMES = {"slowlog", "submit"}
CALL = ("slowlog", {"count": 3})


@pytest.mark.parametrize(
    ("text", "said", "thought"),
    [
        ("plain", "plain", ""),
        ("<think>hm</think>answer", "answer", "<think>hm</think>"),
        ("<think>hm</think>\n\nanswer", "answer", "<think>hm</think>"),
        ("it began before</think> answer", "answer", "it began before</think>"),
        ("<think>never ends {}", "", "<think>never ends {}"),
        ("<reasoning>a</reasoning>b", "b", "<reasoning>a</reasoning>"),
        ("a < b and thinking > c", "a < b and thinking > c", ""),
    ],
)
def test_thoughts_are_kept_apart(text: str, said: str, thought: str) -> None:
    assert without_thoughts(text) == (said, thought)


@pytest.mark.parametrize(
    "value",
    [
        {"name": "slowlog", "arguments": {"count": 3}},
        {"tool": "slowlog", "args": {"count": 3}},
        {"function": "slowlog", "parameters": {"count": 3}},
        {"type": "function", "function": {"name": "slowlog", "arguments": {"count": 3}}},
        [{"tool": "slowlog", "input": {"count": 3}}],
        {"calls": [{"name": "slowlog", "arguments": {"count": 3}}]},
        {"tool_calls": [{"function": {"name": "slowlog", "arguments": {"count": 3}}}]},
        {"slowlog": {"count": 3}},
    ],
)
def test_calls_in_the_shapes_that_models_write(value: Any) -> None:
    assert calls_in(f"Sure! ```json\n{json.dumps(value)}\n``` Done.", NAMES) == [CALL]


@pytest.mark.parametrize(
    "value",
    [
        {"name": "flushall", "arguments": {}},
        {"culprit": {"kind": "key", "name": "slowlog"}},
        {"slowlog": "is long"},
        {"a": {"b": {"name": "slowlog"}}},
        [[[[[[{"name": "slowlog"}]]]]]],
        "slowlog",
        7,
    ],
)
def test_what_is_no_call_is_none(value: Any) -> None:
    assert calls_in(json.dumps(value), NAMES) == []


def test_several_values_keep_their_order() -> None:
    text = 'First {"a": 1}, then {broken}, then [{"b": 2}] and {"c": {"d": 3}}.'
    assert values_in(text) == [{"a": 1}, [{"b": 2}], {"c": {"d": 3}}]
    assert objects_in(text) == [{"a": 1}, {"c": {"d": 3}}]


@pytest.mark.parametrize(
    "text",
    [
        "{" * 1_000_000,
        "[" * 1_000_000,
        '{"a":' * 100_000,
        json.dumps([{"name": "slowlog"}] * 9_000),
    ],
)
def test_hostile_text_is_bounded(text: str) -> None:
    assert len(calls_in(text, NAMES)) <= MOST_CALLS
