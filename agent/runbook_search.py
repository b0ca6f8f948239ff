"""Search over the sections of all runbooks, and quotations from them, word for word.

SQLite's full-text index (FTS5) in memory: it is in Python already, stems words and ranks by BM25.
"""

import difflib
import math
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from agent.runbook import Library, Runbook
from agent.runbook_prose import lines_of
from tools.reading import printable

LONGEST_QUERY = 500
MOST_WORDS = 16
MOST_PASSAGES = 20_000
LONGEST_QUOTE = 480
"""Characters of a quotation; it is cut between sentences or lines."""
LEAST_QUOTE = 12
ENOUGH = 0.55
"""Share of the question's words, weighed by how rare they are, that a passage has to hold."""
TELLING = 250
"""Characters from which a passage is not too short to explain something."""
CLOSE = 0.86
"""How alike a misspelt word and one of the runbooks have to be."""
_WORD = re.compile(r"[a-z0-9]+(?:[_-][a-z0-9]+)*")
_SPACES = re.compile(r"\s+")
_SENTENCE_END = re.compile(r"(?<=[.:;!?])\s")
_COMMENT = re.compile(r"<!--.*?-->")
_STOP = """
    a about all am an and any are as ask at be been best but by can could did do does doing for from
    get give good had has have having how i if in into is it its keep know let like may me mean
    means might most much my need no not now of on or our please redis s server should show so some
    than that the their them then there these they this to too us use used using valkey want was we
    were what whats when where whether which while who why will with would you your explain tell
    happen happens thing things way many more less very really
"""
_TELLS_LESS = {"What not to do": 0.7, "Monitoring & Alerting": 0.8, "Production Checklist": 0.5}
"""Sections that warn, or name a thing without explaining it."""
STOP_WORDS = frozenset(_STOP.split())


@dataclass(frozen=True)
class Passage:
    """One part of a runbook: what stands under a heading."""

    runbook: str
    title: str
    """Of the runbook."""
    section: str
    """`Immediate Remediation` or `Immediate Remediation, Option 2: Where the build refuses`."""
    units: tuple[str, ...]
    """Its paragraphs, items and lines of fences, each on one line."""

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join(self.units)


class RunbookSearch:
    """An index over a library. Cheap to make (milliseconds for the packaged runbooks)."""

    def __init__(self, library: Library) -> None:
        self.passages = tuple(_passages(library))[:MOST_PASSAGES]
        self._index = sqlite3.connect(":memory:", check_same_thread=False)
        self._index.execute(
            "CREATE VIRTUAL TABLE passages USING fts5(title, section, text, tokenize="
            "\"porter unicode61 remove_diacritics 2 tokenchars '_'\")"
        )
        self._index.executemany(
            "INSERT INTO passages(rowid, title, section, text) VALUES (?, ?, ?, ?)",
            (
                (number, f"{each.title} {each.runbook}", each.section, each.text)
                for number, each in enumerate(self.passages)
            ),
        )
        words = {word for each in self.passages for word in _WORD.findall(each.text.lower())}
        self._known = {word for word in words if len(word) > 3 and word not in STOP_WORDS}

    def find(self, query: str, limit: int = 3) -> list[Passage]:
        """The passages that answer best, best first; none if too little of the query is in any."""
        words = self._words(query)
        if not words:
            return []
        holders = {word: self._holding(word) for word in words}
        weights = {word: self._weight(len(rows)) for word, rows in holders.items()}
        total = sum(weights.values())
        scores: dict[int, float] = {}
        for row, relevance in self._ranked(words):
            held = sum(weights[word] for word in words if row in holders[word]) / total
            if held >= ENOUGH:
                scores[row] = relevance * held * self._tells(row)
        best = sorted(scores, key=lambda row: -scores[row])
        return [self.passages[row] for row in best[:limit]]

    def quote(self, passage: Passage, query: str) -> str:
        """The consecutive units of a passage that say most about the query, up to a bound."""
        telling = self.telling(passage, query)
        quoted = ""
        for unit in telling:
            longer = f"{quoted} {unit}".strip()
            if len(longer) > LONGEST_QUOTE:
                break
            quoted = longer
        return quoted or _cut(telling[0])

    def telling(self, passage: Passage, query: str) -> tuple[str, ...]:
        """The units of a passage from the one on that says most about the query."""
        stems = {_stem(word) for word in self._words(query)}
        scores = [
            len(stems & {_stem(word) for word in _WORD.findall(unit.lower())})
            - 0.5 * unit.startswith(("redis-cli", "valkey-cli"))
            for unit in passage.units
        ]
        return passage.units[scores.index(max(scores)) :]

    def holds(self, runbook: str, section: str, quote: str) -> bool:
        """Whether this stands, word for word, in that section of that runbook.

        Whole sentences, items and lines only: half of "do not run this" says the opposite.
        """
        wanted = _flat(quote)
        return len(wanted) >= LEAST_QUOTE and any(
            _stands_whole(wanted, each.units)
            for each in self.passages
            if each.runbook == runbook and _same_section(each.section, section)
        )

    def _weight(self, holding: int) -> float:
        """How much a word tells: the rarer, the more; half, if no runbook knows it at all."""
        passages = len(self.passages)
        return math.log(1 + passages / holding) if holding else math.log(1 + passages) / 2

    def _tells(self, row: int) -> float:
        """How much such a passage explains: short ones rank high and say little."""
        passage = self.passages[row]
        length = min(1.0, 0.5 + len(passage.text) / (2 * TELLING))
        return length * _TELLS_LESS.get(passage.section, 1.0)

    def _words(self, query: str) -> list[str]:
        found = _WORD.findall(query[:LONGEST_QUERY].lower())
        told = (w for w in found if w not in STOP_WORDS and len(w) > 1 and not w.isdigit())
        return list(dict.fromkeys(self._spelt(word) for word in told))[:MOST_WORDS]

    def _spelt(self, word: str) -> str:
        """The word, or the one of the runbooks that it most likely was meant to be."""
        if len(word) < 5 or word in self._known:
            return word
        return next(iter(difflib.get_close_matches(word, self._known, 1, CLOSE)), word)

    def _holding(self, word: str) -> set[int]:
        found = self._index.execute("SELECT rowid FROM passages WHERE passages MATCH ?", [_q(word)])
        return {row for (row,) in found}

    def _ranked(self, words: list[str]) -> list[tuple[int, float]]:
        """Passages with their relevance by BM25, larger is better."""
        query = " OR ".join(map(_q, words))
        # A word in a heading tells more than one in the text.
        found = self._index.execute(
            "SELECT rowid, -bm25(passages, 2.0, 2.0, 2.0) AS relevance FROM passages "
            "WHERE passages MATCH ? ORDER BY relevance DESC, rowid LIMIT 60",
            [query],
        )
        return list(found)


_made: list[tuple[Library, RunbookSearch]] = []


def index_of(library: Library) -> RunbookSearch:
    """The index of a library; that of the last one is kept, for a service has only one."""
    if not _made or _made[0][0] is not library:
        _made[:] = [(library, RunbookSearch(library))]
    return _made[0][1]


def _q(word: str) -> str:
    return f'"{word}"'


def _stem(word: str) -> str:
    for ending in ("ations", "ation", "ing", "ies", "es", "ed", "s"):
        if word.endswith(ending) and len(word) > len(ending) + 3:
            return word.removesuffix(ending)
    return word


def _flat(text: str) -> str:
    return _SPACES.sub(" ", text.replace("`", "").replace("*", "")).strip().casefold()


def _stands_whole(wanted: str, units: tuple[str, ...]) -> bool:
    """Whether these words stand in the units, from the start of a sentence to the end of one."""
    flat = [_flat(unit) for unit in units]
    whole = " ".join(flat)
    edges = {0, len(whole)} | {found.end() for found in _SENTENCE_END.finditer(whole)}
    at = 0
    for unit in flat:  # a unit need not end with a full stop
        edges |= {at, at + len(unit)}
        at += len(unit) + 1
    return any(
        start in edges and ({start + len(wanted), start + len(wanted) + 1} & edges)
        for start in _places(wanted, whole)
    )


def _places(wanted: str, text: str) -> Iterator[int]:
    at = text.find(wanted)
    while at >= 0:
        yield at
        at = text.find(wanted, at + 1)


def _same_section(known: str, given: str) -> bool:
    one, other = _flat(known), _flat(given)
    return one == other or one.startswith(f"{other},")


def _cut(unit: str) -> str:
    """The first sentences of a long paragraph."""
    if len(unit) <= LONGEST_QUOTE:
        return unit
    end = max(unit.rfind(mark, 0, LONGEST_QUOTE) + 1 for mark in (". ", "; ", ", ", " "))
    return unit[: end or LONGEST_QUOTE].rstrip()


def _passages(library: Library) -> Iterator[Passage]:
    for book in library.runbooks:
        for section, units in _sections(book):
            shown = tuple(printable(unit, 4_000) for unit in units)
            yield Passage(book.id, book.front.title, section, shown)


def _sections(book: Runbook) -> Iterator[tuple[str, list[str]]]:
    """Headings of the second and third level, and the units under each."""
    name, units, open_ = "", list[str](), False
    for line in lines_of(book.body):
        text = _COMMENT.sub("", line.text).strip()
        if line.fence is None and text.startswith("#"):
            if units:
                yield name or book.front.title, units
            heading = text.lstrip("#").strip()
            deeper = text.startswith("###") and line.section
            name = f"{line.section}, {heading}" if deeper else heading
            units, open_ = [], False
        elif not text:
            open_ = False
        elif line.fence is not None:
            units.append(_SPACES.sub(" ", text))
            open_ = False
        elif open_ and not re.match(r"[-*]\s|\d+[.)]\s", text):
            units[-1] += f" {text}"  # a paragraph or item goes on
        else:
            units.append(re.sub(r"^[-*]\s+(\[[ xX]\]\s+)?", "", text))
            open_ = True
    if units:
        yield name or book.front.title, units
