"""What a sentence of a model may not say in its own words: numbers, units, shares. Pure.

The words are English, with the numerals of the languages that models slip into. Sentences of
other scripts are refused whole: nobody here can tell what they count. Whether a sentence says the
opposite of its own true facts ("no evictions", beside how many there were) is beyond this check.
"""

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence

from agent.incident import Fact
from agent.units import dimension
from tools.reading import printable

TRIMMED = "\"'`“”‘’«»()[]<>,.;:!?…*–—"  # noqa: RUF001
_TRIMMED_ENDS = TRIMMED.replace(":", "")
TRADE_TERMS = frozenset(
    {"p50", "p90", "p95", "p99", "p999", "p99.9", "ipv4", "ipv6", "utf-8", "resp2", "resp3", "o(1"}
)
_ENGLISH = (
    "zero nought naught two three four five six seven eight nine ten eleven twelve thirteen "
    "fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty "
    "seventy eighty ninety hundred thousand million billion trillion quadrillion zillion "
    "gazillion umpteen eleventy dozen half quarter"
)
_MORE_ENGLISH = (
    "twos threes fours fives sixes sevens eights nines twenties thirties forties fifties sixties "
    "seventies eighties nineties halves halved halving double doubled doubles doubling triple "
    "tripled triples tripling treble trebled quadruple quadrupled quintuple quintupled twice "
    "thrice thirds fifths sixths sevenths eighths ninths tenths twentieths hundredths thousandths "
    "millionths onefold"
)
_OTHERS = (
    "zwei drei vier fünf sechs sieben acht neun zehn elf zwölf zwanzig dreißig vierzig fünfzig "
    "sechzig siebzig achtzig neunzig hundert hunderte tausend tausende millionen milliarden halb "
    "hälfte viertel drittel dutzend doppelt "
    "deux trois quatre cinq sept huit neuf dix onze douze vingt trente quarante cinquante soixante "
    "cent cents mille milliers millions moitié douzaine douzaines centaines "
    "tres cuatro cinco seis siete ocho nueve diez doce veinte treinta cuarenta cincuenta sesenta "
    "setenta ochenta noventa cien ciento cientos quinientos millón millones mitad tercio cuarto "
    "docena docenas "
    "quattro cinque sette otto nove dieci dodici venti trenta quaranta cinquanta cento mila "
    "milioni doppio dozzina dozzine "
    "dois três quatro sete oito dez doze vinte trinta quarenta cinquenta cem centenas milhar "
    "milhares milhão milhões metade terço dúzia dúzias dobro "
    "twee drie vijf zes zeven negen tien twaalf twintig dertig veertig vijftig honderd honderden "
    "duizend duizenden miljoen miljoenen helft"
)


def _plainly(text: str) -> str:
    """Lower-case letters without accents, whatever their width or style."""
    split = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in split if not unicodedata.combining(letter))


_WORDS = frozenset(_plainly(f"{_ENGLISH} {_MORE_ENGLISH} {_OTHERS}").split())
_ONE_AFTER_ANOTHER = re.compile(f"(?:{'|'.join([*_ENGLISH.split(), 'one', 'and'])})+s?")
_FOLD = re.compile(r"([a-z]+)fold")
_ROMAN = re.compile(r"M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})|[IVX]+|[ivx]+")
_NO_NUMERALS = frozenset(
    ["XX", "VI", "CD", "CC", "DC", "MC", "MD", "MI", "DI", "CI", "LI", "CV", "DL", "XL", "MM", "vi"]
)
"""Letters of the trade that could be Roman numerals."""
_LETTERS_AS_DIGITS = re.compile(r"[lI|]+[O]{2,}[lI|O]*")
_OTHER_LATIN = frozenset("æøœłđßþð")
_FILLERS = frozenset(["a", "and", "of", "one", "percent", "per", "cent", "pct"])
_SHARE = re.compile(r"\d\s*(?:%|percent|pct)")
_PHRASE = re.compile(
    r"\b(?:a|an|one|per|each|every|the) (?:third|fifth|sixth|seventh|eighth|ninth|tenth|hundredth"
    r"|thousandth|millionth) (?:of|part)\b|\b(?:one|a|per|every) third\b|\ba couple of\b"
    r"|\borders? of magnitude\b"
)
_MARKUP = re.compile(r"[a-z]{2,20}://|<[a-z/!?]|\]\(|\b(?:javascript|data):", re.IGNORECASE)
"""What a page or a chat client would act upon."""
_SPELLED = re.compile(r"\b(?:[a-z][ ._-]+){2,}[a-z]\b")
_MOST = re.compile(
    r"\b(?:most of|mostly|(?:the|a|vast) majority|nearly all|almost all|bulk of|lion.s share)\b"
)
_NUMBER_LIKE = re.compile(
    r"[-+]?[a-z]{0,3}\d[\d,_]*(?:\.\d+)?(?:e[-+]?\d+)?(?:[/\u2044]\d+)?[a-z%]{0,4}|0x[\da-f]+"
)
ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?|\[[0-9a-f:.]+\](?::\d{1,5})?")
_EVIDENCE = re.compile(r"E\d{1,6}")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_GLUED = re.compile(r"[^\s{}]*[\w%‰×^-]\{[^{}]*\}|\{[^{}]*\}-?[\w%‰^]+")  # noqa: RUF001
_SIZES = "b|bytes?|[kmgt]i?b?|kilobytes?|megabytes?|gigabytes?"
_TIMES = (
    "s|secs?|seconds?|ms|milliseconds?|us|microseconds?|mins?|minutes?|h|hrs?|hours?|d|days?|weeks?"
)
_UNIT_AFTER = re.compile(
    rf"\{{([^{{}}]*)\}}\s+(%|‰|percent|per cent|pct|{_SIZES}|{_TIMES})(?!\w)", re.IGNORECASE
)
_RATE_AFTER = re.compile(
    r"\{([^{}]*)\}(?:\s+[^\s{}]+){0,3}?\s*((?:\bper|\ba|\ban|\beach|\bevery)"
    r"\s+(?:second|minute|hour|day|week)|/\s*(?:s|sec|second|min|minute|h|hour|day))\b",
    re.IGNORECASE,
)


def oddities(text: str) -> list[str]:
    """Characters that hide or disguise what a sentence says; links and mark-up."""
    odd = list(dict.fromkeys(letter for letter in text if _is_odd(letter)))
    marked = ["a link or mark-up may not stand in a text: write plain words"]
    return (marked if _MARKUP.search(text) else []) + [
        f"the character U+{ord(letter):04X}, {unicodedata.name(letter, 'no name').lower()}, "
        "may not stand in a text: write plain English"
        for letter in odd[:3]
    ]


def _is_odd(letter: str) -> bool:
    if letter.isspace():
        return False
    kind = unicodedata.category(letter)
    if kind[0] == "L":
        return letter not in "µμ" and not _is_latin(_plainly(letter))
    return kind in ("Cc", "Cf", "Co", "Cn", "Cs", "So", "Me")


def _is_latin(plain: str) -> bool:
    return all(letter.isascii() or letter in _OTHER_LATIN for letter in plain)


def without_names(text: str, names: Collection[str]) -> str:
    """The text without the names that may stand in it; those that read like numbers stay."""
    return " ".join(word for word in text.split() if not _is_name(word, names))


def _is_name(word: str, names: Collection[str]) -> bool:
    bare = word.strip(TRIMMED)
    name = next((one for one in (word.strip(_TRIMMED_ENDS), bare) if one in names), None)
    if name is None:
        return bare.lower() in TRADE_TERMS
    return bool(_EVIDENCE.fullmatch(name)) or not reads_like_a_number(name)


def reads_like_a_number(name: str) -> bool:
    """Whether this name would be taken for a number where it stands: `12`, `x1000`, `millions`."""
    parts = _plainly(name).split()
    if any(map(_NUMBER_LIKE.fullmatch, parts)) or any(_is_numeral(letter) for letter in name):
        return True
    words = [word for part in parts for word in re.findall(r"[a-z]+", part)]
    counted = any(map(_counts, words))
    among_others = len(parts) == 1 and not all(_counts(one) or one in _FILLERS for one in words)
    return bool(_SHARE.search(_plainly(name))) or (counted and not among_others)


def _is_numeral(letter: str) -> bool:
    """A sign for a number that is no digit: a fraction, a Roman or Chinese numeral."""
    return letter.isnumeric() and not letter.isdecimal()


def numbers(text: str) -> list[str]:
    """Words that state a number, of a text without names."""
    found = [printable(word, 40) for word in text.split() if _states_a_number(word)]
    plain = " ".join(_plainly(text).split())
    found += [phrase[0] for phrase in _PHRASE.finditer(plain)]
    found += [one[0] for one in _SPELLED.finditer(plain) if _counts(re.sub("[^a-z]", "", one[0]))]
    return list(dict.fromkeys(found))


def digits(text: str) -> list[str]:
    """Words that hold a digit of any script, of a text without names."""
    return [printable(word, 40) for word in text.split() if any(map(str.isnumeric, word))]


def _states_a_number(word: str) -> bool:
    if any(map(str.isnumeric, word)):
        return True
    bare = word.strip(TRIMMED)
    if len(bare) > 1 and bare not in _NO_NUMERALS and _ROMAN.fullmatch(bare):
        return True
    plain = re.sub(r"\bnon-?zero\b", "", _plainly(word))
    parts = re.findall(r"[a-z]+", plain)
    return any(map(_counts, [*parts, "".join(parts)])) or bool(_LETTERS_AS_DIGITS.fullmatch(bare))


def _counts(word: str) -> bool:
    if word in _WORDS:
        return True
    if fold := _FOLD.fullmatch(word):
        return fold[1] in _WORDS or fold[1] == "one"
    return word not in ("one", "ones", "and", "ands") and bool(_ONE_AFTER_ANOTHER.fullmatch(word))


# -- around a placeholder -------------------------------------------------------------------


def around(text: str, facts: Mapping[str, Fact]) -> Iterator[str]:
    """What stands beside a number that code prints, and makes another of it."""
    for glued in _GLUED.finditer(text):
        yield f"'{printable(glued[0], 60)}': a placeholder stands by itself; code prints the unit"
    for name, unit in _UNIT_AFTER.findall(text):
        if not (unit in ("%", "percent") and _is_bare_percentage(facts.get(name))):
            shown = printable(name, 60)
            yield f"'{unit}' after {{{shown}}}: give the fact its unit instead; code prints it"
    for name, rate in _RATE_AFTER.findall(text):
        said = " ".join(rate.split())
        shown = printable(name, 60)
        yield f"'{said}' after {{{shown}}}: a rate is a fact of its own, and code prints it with /s"


def _is_bare_percentage(fact: Fact | None) -> bool:
    bare = fact is not None and fact.unit in ("", "count")
    return bare and fact is not None and dimension(fact.of[0]) == "percentage"


def unsupported_share(text: str, facts: Sequence[Fact]) -> str:
    """`most of` wants a share above one half among the facts; empty if it has one."""
    said = _MOST.search(_plainly(_PLACEHOLDER.sub(" ", text)))
    shares = {"ratio": 1.0, "percentage": 100.0}
    if said is None or any(
        not isinstance(one.value, str) and one.value / shares[one.unit] > 0.5
        for one in facts
        if one.unit in shares
    ):
        return ""
    return f"'{said[0]}' in the text, but no share above one half is among its facts"
