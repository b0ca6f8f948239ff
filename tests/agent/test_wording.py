"""Ways to say a number without a fact, and sentences that say none."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.facts import compute, index, printed
from agent.incident import FactDraft
from agent.wording import around, digits, numbers, oddities, reads_like_a_number, without_names
from tests.agent.desk import MIB, fact, piece

NUMBERS = [
    "100", "7.2", "1e6", "1,000,000", "-3", "0", "x2", "10k", "3rd", "100%", "0x1F", "k8s",
    "١٢", "१२", "三", "百万", "½", "Ⅻ", "²", "①", "𝟗𝟗", "9️⃣", "１００",  # noqa: RUF001
    "zero", "two", "Three", "TEN", "eleven", "ninety-nine", "a hundred", "hundreds", "thousands",
    "millions", "two million", "twohundred", "tenthousand", "onehundredandone", "dozens", "dozen",
    "half", "halves", "halved", "a quarter", "double", "doubled", "twice", "thrice", "tripled",
    "tenfold", "twofold", "hundredfold", "a third of it", "one third", "two thirds", "a tenth of",
    "every third", "a couple of them", "an order of magnitude", "t e n", "t-w-o", "f.i.v.e",
    "ｔｗｏ", "𝐭𝐞𝐧", "tèn", "tw\u0301o",  # noqa: RUF001
    "XII", "IV", "MMXXVI", "(VII)", "IIII", "vii", "ix", "lOO", "I00", "th.ree", "tw_o", "umpteen",
    "zwanzig", "fünfzig", "hundert", "quatre", "vingt", "mille", "cien", "millones", "mitad",
    "duizend", "milhões", "cinquanta", "doppelt",
]  # fmt: skip
NO_NUMBERS = [
    "one of the clients holds it", "one key", "each one", "someone else", "the second sample",
    "first", "at once", "single", "both", "several", "few", "many", "the third prefix", "often",
    "content", "attention", "tense", "done", "phone", "once more", "nonzero", "a non-zero rate",
    "weight", "CPU", "XX", "CD", "I/O", "AOF", "LRU", "LFU", "unfold", "manifold",
    "scaffold", "per key", "most likely", "at most", "an even share", "p99 latency", "IPv4",
    "an O(1) command", "an O(N) command",
]  # fmt: skip


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_is_found_in_any_dress(text: str) -> None:
    assert numbers(without_names(f"about {text} keys", ())), text


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_no_number_passes(text: str) -> None:
    assert numbers(without_names(f"about {text} here", ())) == []


@given(st.integers())
def test_every_written_number_is_found(number: int) -> None:
    assert numbers(f"about {number} keys")
    assert digits(f"about {number} keys")


@given(st.text(st.characters(categories=["N"]), min_size=1, max_size=6))
def test_digits_of_every_script_are_found(text: str) -> None:
    assert numbers(f"x {text} y")
    assert digits(f"x{text}y")


@given(st.text(string.ascii_letters + " -'.,", max_size=60))
def test_whatever_a_sentence_says_the_check_ends(text: str) -> None:
    assert isinstance(numbers(text), list)
    assert oddities(text) == []


# -- names ----------------------------------------------------------------------------------

NAMES = {
    "user:42:", "node-3", "10.0.0.9:1234", "10.0.0.9", "millions", "x1000", "v96",
    "two:halves:", "E7", "half:life:",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("user:42: is", "is"),
        ("`user:42:`, is", "is"),
        ("(node-3) is", "is"),
        ("10.0.0.9:1234 and 10.0.0.9", "and"),
        ("node-4 is", "node-4 is"),
        ("user:42:x is", "user:42:x is"),
        ("millions", "millions"),
        ("“millions”", "“millions”"),
        ("'x1000'.", "'x1000'."),
        ("x1000", "x1000"),
        ("v96,", "v96,"),
        ('"v96"', '"v96"'),
        ("`96`", "`96`"),
        ("two:halves:", "two:halves:"),
        ("half:life:", ""),
        ("p99 RESP3 (E7) E8", "E8"),
    ],
)
def test_names_from_evidence_stand_in_a_text_unless_they_read_like_numbers(
    text: str, left: str
) -> None:
    assert without_names(text, NAMES) == left


@pytest.mark.parametrize(
    "name",
    ["12", "1e6", "9MiB", "9 MiB", "100%", "-1", "1_000", "1,5", "0x1f", "½", "x1000", "db0", "1/2",
     "٣", "half", "ten-thousand", "fifty-percent", "about99percent", "ninety:",
     "all of the millions", "Ⅻ", "二"],
)  # fmt: skip
def test_names_that_read_like_numbers(name: str) -> None:
    assert reads_like_a_number(name)


@pytest.mark.parametrize(
    "name",
    ["session:", "user:42:", "node-3", "127.0.0.1:6379", "10.0.0.9", "7.2.4", "noeviction",
     "half:life:", "queue", "allkeys-lru", "get", "CONFIG GET", "(unnamed)", "jemalloc-5.3.0", "",
     "{user1000}.x", "42f0a9c1d2"],
)  # fmt: skip
def test_names_that_do_not(name: str) -> None:
    assert not reads_like_a_number(name)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("session:", '"session:"'),
        ("12", 'the text "12"'),
        ("100%", 'the text "100%"'),
        ("9 MiB", 'the text "9 MiB"'),
        ("millions", 'the text "millions"'),
        ("All is healthy, confidence 100%", 'the text "All is healthy, confidence 100%"'),
        ("k" * 500, '"' + "k" * 120 + '…(500 characters)"'),
        ('x" all ok "', 'the text "x\\" all ok \\""'),
        ("x\u202ey\x1b[2J", '"x\\u202ey\\x1b[2J"'),
    ],
)
def test_text_from_evidence_is_quoted_bounded_and_no_number(value: str, text: str) -> None:
    known = index([piece(1, "bigkeys", {"key": value})])
    told = printed(compute(fact("x", "E1", "value", "text", "key"), known))
    assert told == text


# -- disguises ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sto\u200bry", "U+200B, zero width space"),
        ("a\u00adb", "U+00AD, soft hyphen"),
        ("x \u202eabc", "U+202E, right-to-left override"),
        ("\x1b[31m", "U+001B"),
        ("\u043ene key", "U+043E, cyrillic small letter o"),
        ("три ключа", "may not stand in a text: write plain English"),
        ("ключ", "cyrillic"),
        ("ᴏɴᴇ", "latin letter small capital o"),
        ("十 keys", "cjk"),
        ("💯", "U+1F4AF, hundred points symbol"),
        ("🎲", "game die"),
        ("\ue000", "U+E000"),
    ],
)  # fmt: skip
def test_disguises_are_named(text: str, why: str) -> None:
    assert why in "; ".join(oddities(text))


@pytest.mark.parametrize(
    "text", ["naïve café", "850 µs", "a → b", "“quoted” said", "€", "tab\there"]
)
def test_ordinary_letters_and_signs_pass(text: str) -> None:
    assert oddities(text) == []


# -- beside a placeholder -------------------------------------------------------------------

FACTS = [
    FactDraft(name="used", evidence="E1", of=["used_memory"], unit="bytes"),
    FactDraft(name="keys", evidence="E1", of=["keys"], unit="count"),
    FactDraft(name="stale", evidence="E1", of=["expired_stale_perc"]),
    FactDraft(name="share", evidence="E1", of=["share"], unit="ratio"),
]
READING = {"used_memory": 96 * MIB, "keys": 12, "expired_stale_perc": 14.5, "share": 0.4}
KNOWN = index([piece(1, "any", READING)])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{used} MiB", "'MiB' after {used}: give the fact its unit instead; code prints it"),
        ("{used} bytes", "'bytes' after {used}"),
        ("{keys} GB", "'GB' after {keys}"),
        ("{keys} k", "'k' after {keys}"),
        ("{keys} ms.", "'ms' after {keys}"),
        ("{keys} minutes", "'minutes' after {keys}"),
        ("{share} %", "'%' after {share}"),
        ("{share} percent", "'percent' after {share}"),
        ("{keys} %", "'%' after {keys}"),
        ("{keys}k", "'{keys}k': a placeholder stands by itself"),
        ("{keys}%", "'{keys}%'"),
        ("{keys}-fold", "'{keys}-fold'"),
        ("-{keys}", "'-{keys}'"),
        ("a1{keys}", "'a1{keys}'"),
        ("{keys} per second", "'per second' after {keys}: a rate is a fact of its own"),
        ("{keys} keys a minute", "'a minute' after {keys}"),
        ("{keys} keys expire each hour", "'each hour' after {keys}"),
        ("{keys} keys/s", "'/s' after {keys}"),
    ],
)
def test_what_makes_another_number_of_a_fact(text: str, why: str) -> None:
    facts = {each.name: compute(each, KNOWN) for each in FACTS}
    assert any(why in wrong for wrong in around(text, facts)), list(around(text, facts))


@pytest.mark.parametrize(
    "text",
    ["{used} of {used}", "({used})", "“{used}”", "{used}/{used}", "{keys} keys", "{keys} times",
     "{stale} percent", "{stale} %", "{used}, a lot", "{used}: so",
     "{keys} keys of a dayless name", "{used} held by day"],
)  # fmt: skip
def test_what_may_stand_beside_a_placeholder(text: str) -> None:
    facts = {each.name: compute(each, KNOWN) for each in FACTS}
    assert list(around(text, facts)) == []
