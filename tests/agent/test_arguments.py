"""Which reading a plan takes its numbers from."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.arguments import Findings, Gap, _suspects
from agent.incident import Culprit, Diagnosis
from tests.agent.desk import piece
from tools.clients import ClientRow, Clients
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


def replica(number: int, address: str, held: int) -> ClientRow:
    return ClientRow(
        id=number, name="", address=address, label=address, user="default", library="",
        type="replica", flags="S", command="replconf", age_seconds=9, idle_seconds=9, db=0,
        subscriptions=0, multi=-1, output_bytes=held, output_list_length=0, input_bytes=0,
        memory=held,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("held", "chosen"),
    [
        ({"10.0.0.7:41832": 40}, [1]),
        ({"10.0.0.7:41832": 40, "10.0.0.8:50112": 90}, [1]),
        ({"10.0.0.7:41832": 40, "10.0.0.7:50112": 1}, [1]),
        ({"10.0.0.7:41832": 40, "10.0.0.7:50112": 30}, []),
        ({"10.0.0.9:41832": 40, "10.0.0.9:50112": 40}, []),
    ],
)
def test_a_replica_is_found_by_its_host_and_by_what_it_holds(
    held: dict[str, int], chosen: list[int]
) -> None:
    """INFO knows it by the port it listens on, CLIENT LIST by another; of two, nobody is chosen."""
    culprit = Culprit(kind="replica", name="10.0.0.7:6379")
    diagnosis = Diagnosis(
        root_cause="replica-output-buffer", title="", is_incident=True, confidence=1.0, summary="",
        culprit=culprit,
    )  # fmt: skip
    rows = [replica(n, a, megabytes << 20) for n, (a, megabytes) in enumerate(held.items(), 1)]
    nothing = cast("Any", None)
    clients = cast("Clients", SimpleNamespace(largest=rows))
    gap = Gap(Findings(nothing, diagnosis, [], nothing), "replica-output-buffer", {})
    assert [row.id for row in _suspects(gap, clients)] == chosen
