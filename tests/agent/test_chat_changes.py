"""What differs between two looks: told where it is more than a breath, with both as evidence."""

from typing import Any

from agent.chat_changes import WATCHED, changes, first_and_last
from tests.agent.desk import GONE, MEMORY, MIB, piece
from tools.reads import READS


def memory(number: int, **changed: Any) -> Any:
    return piece(number, "memory_info", MEMORY | changed)


def test_a_value_that_moved_is_told_with_both_looks() -> None:
    found = changes([memory(1)], [memory(2, used_memory=48 * MIB)])
    (claim,) = found.claims
    assert claim.text == "Used memory went from 96.0 MiB to 48.0 MiB."
    assert [fact.evidence for fact in claim.facts] == ["E1", "E2"]
    assert "Pressure" in found.same


def test_a_breath_is_no_change() -> None:
    found = changes([memory(1)], [memory(2, used_memory=97 * MIB)])
    assert found.claims == []
    assert "Used memory" in found.same


def test_what_was_not_measured_is_not_compared() -> None:
    found = changes([memory(1, used_memory=GONE)], [memory(2)])
    assert all("Used memory" not in claim.text for claim in found.claims)
    assert "Used memory" not in found.same
    assert changes([piece(1, "memory_info", GONE, measured=False)], [memory(2)]).claims == []


def test_configuration_is_compared_parameter_by_parameter() -> None:
    before = piece(1, "config_get", {"parameters": {"maxmemory": "1", "hz": "10", "save": ""}})
    after = piece(2, "config_get", {"parameters": {"maxmemory": "2", "hz": "10"}})
    (claim,) = changes([before], [after]).claims
    assert claim.text == "The parameter maxmemory went from 1 byte to 2 bytes."


def test_a_restart_is_told() -> None:
    before, after = (
        piece(n, "server_info", {"run_id": run}) for n, run in ((1, "fee"), (2, "bad"))
    )
    (claim,) = changes([before], [after]).claims
    assert claim.text == 'The server was restarted: its run went from "fee" to "bad".'


def test_first_and_last_look_of_the_same_kind() -> None:
    once = piece(9, "keyspace", {"keys": 1})
    before, after = first_and_last([memory(1), memory(2), once, memory(3)])
    assert [p.id for p in before] == ["E1"]
    assert [p.id for p in after] == ["E3"]


def test_everything_watched_exists() -> None:
    for watched in WATCHED:
        assert watched.path.split(".")[0] in READS[watched.tool].reading.model_fields
