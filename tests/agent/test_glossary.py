"""What names mean is gathered from where they are defined, and nothing important is missing."""

import pytest

from agent.glossary import MEANINGS, term_of
from agent.runbook_library import load_library
from tools.permissions import CONFIG_SETTABLE
from tools.reading import InfoReading
from tools.reads import READS

LIBRARY = load_library()


def test_every_parameter_and_every_field_of_info_has_a_meaning() -> None:
    fields = {
        name
        for tool in READS.values()
        if issubclass(tool.reading, InfoReading)
        for name, field in tool.reading.model_fields.items()
        if "list" not in str(field.annotation)
    }
    plain = {"os", "master_host", "master_port"}
    unexplained = [
        name
        for name in sorted(fields | CONFIG_SETTABLE)
        if name not in plain and not ((term := term_of(name, LIBRARY)) and term.meaning)
    ]
    assert unexplained == []


def test_every_explanation_is_of_something_and_one_sentence_long() -> None:
    for line in MEANINGS.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, meaning = line.partition(": ")
            term = term_of(name, LIBRARY)
            assert term is not None
            assert term.meaning
            assert meaning.endswith("."), name
            assert len(meaning) <= 260, name


def test_a_docstring_under_a_field_is_its_explanation() -> None:
    term = term_of("hit_ratio", LIBRARY)
    assert term is not None
    assert term.meaning.startswith("Hits / (hits + misses)")
    assert (term.tool, term.path) == ("stats", "hit_ratio")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("evicted keys", "evicted_keys"), ("USED_MEMORY_RSS", "used_memory_rss"),
        ("fragmentation ratio", "mem_fragmentation_ratio"), ("lfu decay time", "lfu-decay-time"),
        ("mem_fragmention_ratio", "mem_fragmentation_ratio"), ("misconf", "misconf"),
        ("missing-ttl-prefix-leak", "missing-ttl-prefix-leak"), ("bigkeys", "bigkeys"),
    ],
)  # fmt: skip
def test_names_are_found_as_people_write_them(written: str, name: str) -> None:
    term = term_of(written, LIBRARY)
    assert term is not None
    assert term.name == name


@pytest.mark.parametrize("written", ["", "weather", "the plan", "x" * 500, "../../etc/passwd"])
def test_what_is_no_name_is_none(written: str) -> None:
    assert term_of(written, LIBRARY) is None
