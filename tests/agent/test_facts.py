"""Facts: paths into evidence, what is computed from them, and how it is printed."""

import math
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from agent.facts import (
    UNITS,
    FactRefused,
    all_paths,
    compute,
    index,
    leaves,
    paths,
    print_bytes,
    print_microseconds,
    print_seconds,
    printed,
    resolve,
)
from agent.incident import Fact, FactDraft
from agent.units import is_classified
from tests.agent.desk import GONE, MEMORY, MIB, fact, piece, some_evidence
from tools.reads import READS

KNOWN = index(some_evidence())
COUNTERS = {
    "seconds": 5.0,
    "none": {"seconds": 0.0},
    "evicted_last": 1_500,
    "evicted_first": 1_000,
    "down_last": 3,
    "down_first": 900,
    "used_memory_last": 20 * MIB,
    "used_memory_first": 10 * MIB,
    "empty": None,
    "endless": math.inf,
    "flag": True,
    "label": "42",
    "huge": 10**400,
    "mem_fragmentation_ratio": 4.1,
    "expired_stale_perc": 14.98,
    "hz": 10,
    "whatever": 7,
    "sync_full": 12,
    "total_microseconds": 3_000_000,
    "events": {"a.b": {"longest.milliseconds": 40}},
}


@pytest.mark.parametrize(
    ("op", "of", "unit", "value", "text"),
    [
        ("value", ["E1:used_memory"], "bytes", 96 * MIB, "96.0 MiB"),
        ("value", ["E2:prefixes.0.bytes"], "bytes", 60 * MIB, "60.0 MiB"),
        ("value", ["E2:prefixes.0.prefix"], "text", "session:", '"session:"'),
        ("value", ["E2:prefixes.1.prefix"], "", "96", 'the text "96"'),
        ("value", ["E4:parameters.maxmemory"], "bytes", 100 * MIB, "100.0 MiB"),
        ("ratio", ["E1:counted_memory", "E4:parameters.maxmemory"], "ratio", 0.9, "90.0 %"),
        ("ratio", ["E2:bytes_seen", "E2:keys_seen"], "bytes", 319.81568, "319.8 bytes"),
        ("difference", ["E1:used_memory", "E1:counted_memory"], "bytes", 6 * MIB, "6.0 MiB"),
        ("sum", ["E2:prefixes.0.keys", "E2:prefixes.1.keys"], "count", 199_002, "199,002"),
        (
            "rate",
            ["E9:evicted_last", "E9:evicted_first", "E9:seconds"],
            "per_second",
            100.0,
            "100/s",
        ),
        (
            "rate",
            ["E9:used_memory_last", "E9:used_memory_first", "E9:seconds"],
            "bytes_per_second",
            2 * MIB,
            "2.0 MiB/s",
        ),
        ("value", ["E9:flag"], "", True, "yes"),
        # The unit follows from the paths, also where none was given.
        ("value", ["E1:used_memory"], "", 96 * MIB, "96.0 MiB"),
        ("sum", ["E1:used_memory", "E1:counted_memory"], "", 186 * MIB, "186.0 MiB"),
        ("ratio", ["E2:bytes_seen", "E2:keys_seen"], "", 319.81568, "319.8 bytes"),
        ("ratio", ["E2:keys_seen", "E9:seconds"], "", 40_000.0, "40,000/s"),
        ("ratio", ["E1:used_memory", "E9:seconds"], "", 19.2 * MIB, "19.2 MiB/s"),
        ("ratio", ["E9:total_microseconds", "E9:sync_full"], "", 250_000, "250 ms"),
        ("ratio", ["E1:used_memory", "E1:limit"], "", 0.96, "0.96"),
        ("ratio", ["E9:whatever", "E9:hz"], "ratio", 0.7, "70.0 %"),
        ("ratio", ["E9:hz", "E9:whatever"], "", 10 / 7, "1.429"),
        ("rate", ["E9:evicted_last", "E9:evicted_first", "E9:seconds"], "", 100.0, "100/s"),
        ("value", ["E1:pressure"], "", 0.9, "90.0 %"),
        ("value", ["E9:mem_fragmentation_ratio"], "", 4.1, "4.1"),
        ("value", ["E9:mem_fragmentation_ratio"], "ratio", 4.1, "410.0 %"),
        ("value", ["E9:expired_stale_perc"], "percentage", 14.98, "15.0 %"),
        ("value", ["E9:hz"], "", 10, "10"),
        ("value", ["E9:events.a.b.longest.milliseconds"], "", 40, "40 ms"),
    ],
)  # fmt: skip
def test_facts_are_computed_and_printed_by_unit(
    op: Any, of: list[str], unit: str, value: Any, text: str
) -> None:
    known = {**KNOWN, "E9": piece(9, "stats", COUNTERS)}
    computed = compute(FactDraft(name="x", evidence="E1", op=op, of=of, unit=unit), known)
    assert computed.value == pytest.approx(value) if not isinstance(value, str) else value
    assert printed(computed) == text


@pytest.mark.parametrize(
    ("op", "of", "unit", "why"),
    [
        ("value", ["E7:used_memory"], "", "there is no evidence 'E7'"),
        ("value", ["used_memori"], "bytes", "did you mean used_memory?"),
        ("value", ["E2:prefixes.7.bytes"], "bytes", "that list has 2 entries"),
        ("value", ["E2:prefixes.-1.bytes"], "bytes", "has no"),
        ("value", ["E2:prefixes.0"], "", "is not a single value"),
        ("value", ["E2:prefixes"], "", "is not a single value"),
        ("value", ["mem_clients_normal"], "bytes", "was not measured: NOPERM"),
        ("value", ["mem_clients_normal.because"], "text", "was not measured"),
        ("value", ["E3:connected"], "count", "E3 was not measured: NOPERM"),
        ("value", ["E3:because"], "text", "E3 was not measured"),
        ("value", ["E9:empty"], "", "holds nothing"),
        ("value", ["E9:endless"], "", "not a finite number"),
        ("value", ["used_memory"], "MB", "unknown unit 'MB'"),
        ("value", ["used_memory"], "seconds", "the result is in bytes"),
        ("value", ["used_memory"], "text", "is a number"),
        ("value", ["maxmemory_policy"], "bytes", "is text"),
        ("value", ["used_memory", "limit"], "bytes", "takes one path"),
        ("ratio", ["used_memory"], "ratio", "takes two paths"),
        ("ratio", ["used_memory", "E9:none.seconds"], "", "denominator is zero"),
        ("ratio", ["used_memory", "limit"], "bytes", "the result is in ratio"),
        ("ratio", ["maxmemory_policy", "limit"], "ratio", "is not a number"),
        ("ratio", ["used_memory", "E2:prefixes.1.prefix"], "ratio", "is not a number"),
        ("sum", ["used_memory", "E9:flag"], "bytes", "is not a number"),
        ("sum", ["used_memory", "E9:seconds"], "", "cannot be added"),
        ("ratio", ["E9:huge", "E9:evicted_last"], "", "not a finite number"),
        ("rate", ["E9:down_last", "E9:down_first", "E9:seconds"], "per_second", "a reset"),
        ("rate", ["E9:evicted_last", "E9:evicted_first", "E9:none.seconds"], "", "no time passed"),
        ("rate", ["E9:evicted_last", "E9:evicted_first", "E9:used_memory_last"], "",
         "the third path of a rate is in seconds"),
        ("rate", ["E9:evicted_last", "E9:evicted_first", "E9:whatever"], "", "is in seconds"),
        ("rate", ["E9:sync_full", "E9:used_memory_first", "E9:seconds"], "",
         "bytes and count cannot be added or subtracted"),
        ("rate", ["E2:keys_seen", "E9:evicted_first", "E9:seconds"], "",
         "the three paths of a rate belong to one piece of evidence"),
        ("rate", ["E9:evicted_last", "E9:evicted_first", "E9:seconds"], "bytes_per_second",
         "the result is in per_second"),
        ("ratio", ["used_memory", "E1:used_memory"], "", "a ratio of the same path twice"),
        ("sum", ["E2:prefixes.0.bytes", "E2:prefixes.00.bytes"], "", "a sum of the same path"),
        ("difference", ["limit", "limit"], "", "a difference of the same path twice says nothing"),
        ("rate", ["E9:evicted_last", "E9:evicted_first"], "", "takes three paths"),
        ("value", ["E9:huge"], "", "no number that a server counts to"),
        ("ratio", ["E2:bytes_seen", "E2:keys_seen"], "ratio", "the result is in bytes"),
        ("ratio", ["E2:keys_seen", "E2:bytes_seen"], "ratio", "in no unit that is known"),
        ("ratio", ["E1:used_memory", "E9:seconds"], "bytes", "the result is in bytes_per_second"),
        ("value", ["E9:whatever"], "bytes", "in no unit that is known"),
        ("value", ["E9:hz"], "ratio", "in no unit that is known"),
        ("value", ["E9:expired_stale_perc"], "ratio", "cannot be printed as ratio"),
        ("value", ["E9:sync_full"], "per_second", "the result is in count"),
        ("value", ["E2:keys_seen"], "bytes", "the result is in count"),
        ("value", ["E1:pressure"], "percentage", "the result is in ratio"),
        ("difference", ["E1:used_memory", "E8:used_memory"], "bytes", "are different servers"),
        ("ratio", ["E8:used_memory", "E1:limit"], "", "are different servers"),
        ("value", ["__class__"], "", "has no"),
        ("value", ["used_memory.__class__"], "", "has no"),
        ("value", ["x" * 500], "", "1 to 200 characters"),
        ("value", [""], "", "1 to 200 characters"),
        ("value", ["E2:prefixes.٠.keys"], "", "has no"),  # noqa: RUF001 - an Arabic digit
        ("value", ["E2:prefixes.99999999999999999999.keys"], "", "has no"),
    ],
)  # fmt: skip
def test_a_fact_that_does_not_hold_says_exactly_why(
    op: Any, of: list[str], unit: str, why: str
) -> None:
    elsewhere = piece(8, "memory_info", MEMORY).model_copy(update={"node": "10.0.0.2:6379 (slave)"})
    known = {**KNOWN, "E8": elsewhere, "E9": piece(9, "stats", COUNTERS)}
    with pytest.raises(FactRefused, match=re.escape(why)):
        compute(FactDraft(name="x", evidence="E1", op=op, of=of, unit=unit), known)


def test_every_number_a_tool_reads_is_in_the_table_of_units() -> None:
    fields = {name for tool in READS.values() for name in numbers_of(tool.reading)}
    assert len(fields) > 200
    assert sorted(name for name in fields if not is_classified(name)) == []


def numbers_of(annotation: Any) -> Iterator[str]:
    """Names of the fields that may hold a number, in a model and the models in it."""
    for part in get_args(annotation):
        yield from numbers_of(part)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            if {int, float} & {field.annotation, *get_args(field.annotation)}:
                yield name
            yield from numbers_of(field.annotation)


def test_a_suggestion_costs_little_however_large_the_reading() -> None:
    rows = [{f"key_{n}": n, "bytes": n} for n in range(5_000)]
    known = {"E1": piece(1, "bigkeys", {"rows": rows})}
    with pytest.raises(FactRefused, match=r"did you mean rows\.\d+\.bytes\?"):
        resolve("rows.x.bytes", "E1", known)


NAMES = st.text("abcdefghij_", min_size=1, max_size=8)
SCALARS = st.one_of(
    st.integers(-(10**18), 10**18),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=9),
)
READINGS = st.dictionaries(
    NAMES,
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
        max_leaves=12,
    ),
    min_size=1,
    max_size=5,
)


@given(READINGS)
def test_every_listed_path_resolves_to_what_is_there(reading: dict[str, Any]) -> None:
    known = {"E1": piece(1, "any", reading)}
    for path, leaf in leaves(reading):
        if "parameters" not in path:
            assert resolve(path, "E1", known) == leaf


@given(READINGS, st.text(max_size=30))
def test_any_other_path_is_refused_and_never_crashes(reading: dict[str, Any], path: str) -> None:
    known = {"E1": piece(1, "any", reading)}
    try:
        found = resolve(path, "E1", known)
    except FactRefused:
        assert path not in all_paths(reading)
    else:
        assert found == dict(leaves(reading))[re.sub(r"(?<=\.)0+(?=\d)|^E1:", "", path)]


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(-10_000, 10_000))
def test_rates_are_never_negative_nor_over_no_time(
    last: int, first: int, milliseconds: int
) -> None:
    seconds = milliseconds / 1000
    known = {"E1": piece(1, "stats", {"last": last, "first": first, "seconds": seconds})}
    draft = fact("x", "E1", "rate", "per_second", "last", "first", "seconds")
    if seconds > 0 and last >= first:
        assert compute(draft, known).value == pytest.approx((last - first) / seconds)
    else:
        with pytest.raises(FactRefused):
            compute(draft, known)


@given(st.integers(0, 10**15), st.integers(1, 10**15))
def test_percentages_say_what_the_ratio_is(part: int, whole: int) -> None:
    known = {"E1": piece(1, "any", {"a": part, "b": whole})}
    text = printed(compute(fact("x", "E1", "ratio", "ratio", "a", "b"), known))
    assert float(text.removesuffix(" %").replace(",", "")) == pytest.approx(
        part / whole * 100, abs=0.051, rel=1e-9
    )


@given(st.floats(-1e18, 1e18), st.sampled_from([unit for unit in UNITS if unit != "text"]))
def test_every_number_prints_short_and_with_a_digit(value: float, unit: str) -> None:
    text = printed(Fact(name="x", evidence="E1", of=["a"], unit=unit, value=value))
    assert len(text) < 45
    assert any(map(str.isdigit, text))
    assert not re.search(r"\de\+", text)


@given(st.integers(0, 2**60))
def test_printed_bytes_are_within_rounding_of_the_bytes(value: int) -> None:
    number, unit = print_bytes(value).split(" ")
    size = {"byte": 1, "bytes": 1} | {
        u: 1024 ** (i + 1) for i, u in enumerate(["KiB", "MiB", "GiB", "TiB", "PiB"])
    }
    shown = float(number.replace(",", ""))
    assert shown * size[unit] == pytest.approx(value, abs=0.051 * size[unit])
    assert shown < 1024 or unit == "PiB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.12, "120 ms"), (0.99999, "1 s"), (12.34, "12.3 s"), (59.97, "1 min"),
     (200, "3 min 20 s"), (3599.9, "1 h"), (7500, "2 h 5 min"), (86_399, "24 h"),
     (273_600, "3 d 4 h"), (-1, "-1 s"), (0.00085, "850 µs")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert print_seconds(seconds) == text


@given(st.floats(0, 1e12))
def test_durations_always_end(value: float) -> None:
    assert print_seconds(value)
    assert print_microseconds(value)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (12_345, "microseconds", "12.3 ms"),
        (850.4, "microseconds", "850.4 µs"),
        (2_500_000, "microseconds", "2.5 s"),
        (1_234_567, "count", "1,234,567"),
        (4.1, "", "4.1"),
        (0.00123, "", "0.0012"),
        (0.5, "per_second", "0.5/s"),
        (1_024, "bytes", "1.0 KiB"),
        (1, "bytes", "1 byte"),
        (MIB - 1, "bytes", "1.0 MiB"),
        ('say "hi"\x1b[2J', "text", '"say \\"hi\\"\\x1b[2J"'),
    ],
)  # fmt: skip
def test_units(value: Any, unit: str, text: str) -> None:
    assert printed(Fact(name="x", evidence="E1", of=["a"], unit=unit, value=value)) == text


def test_the_listing_names_every_path_briefly() -> None:
    assert [paths(each) for each in some_evidence()] == [
        "E1 memory_info: used_memory, counted_memory, limit, limit_source, maxmemory_policy, "
        "pressure",
        "E2 bigkeys: keys_seen, bytes_seen, top_by_bytes.0.{key,type,bytes,elements,ttl_seconds}, "
        "prefixes.0-1.{prefix,keys,bytes,without_ttl_share}",
        "E3 clients: not measured (NOPERM: no permission)",
        "E4 config_get: parameters.{maxmemory,save}",
    ]


def test_a_reading_of_any_size_is_walked_within_bounds() -> None:
    reading = {"rows": [{"key": f"k{n}"} for n in range(50_000)], "gone": GONE}
    assert len(all_paths(reading)) == 2_000
