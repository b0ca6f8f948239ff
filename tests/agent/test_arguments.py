"""Which reading a plan takes its numbers from."""

from typing import Any, cast

from agent.arguments import Findings
from tests.agent.desk import piece
from tools.keyspace import Keyspace
from tools.reading import Evidence


def keyspace(number: int, sampled: int, **args: Any) -> Evidence:
    reading = Keyspace(
        databases=[], keys=5_000, expires=0, expires_share=0.0, sampled=sampled, prefixes=[],
        sample_stopped_because="",
    )  # fmt: skip
    seen = piece(number, "keyspace", reading.model_dump(mode="json"))
    return seen.model_copy(update={"args": args})


def latest(*evidence: Evidence) -> str | None:
    nothing = cast("Any", None)
    found = Findings(nothing, nothing, list(evidence), nothing).latest(Keyspace)
    return found[1] if found else None


def test_a_look_of_a_models_own_choice_does_not_size_the_plan() -> None:
    usual, again = keyspace(1, 5_000), keyspace(3, 5_000, memory_limit=1)
    narrow = keyspace(2, 1, keys=1)
    assert latest(usual, narrow) == "E1"
    assert latest(usual, narrow, again) == "E3"


def test_where_there_is_no_other_any_look_will_do() -> None:
    assert latest(keyspace(1, 1, keys=1), keyspace(2, 2, keys=2)) == "E2"
    assert latest() is None
