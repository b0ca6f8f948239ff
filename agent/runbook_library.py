"""Loads runbooks from the packaged folder and from configured ones, and picks those that match.

A packaged runbook that does not load is a bug and raises. A broken file in a team's folder is
left out and named in `Library.problems`: a typo must not keep the service from starting.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from agent.incident import Alert, RunbookMatch
from agent.runbook import FrontMatter, Library, Matches, Problem, Runbook
from agent.runbook_prose import title_of, tools_in
from tools.plain_yaml import SAFE, read_yaml
from tools.reading import printable

PACKAGED = Path(__file__).parent.parent / "runbooks"
BASELINE = "memory-pressure"
"""The runbook whose baseline every investigation needs."""
MOST_MATCHES = 4
MOST_FILES = 500
LARGEST_FILE = 64 * 1024
LONGEST_FRONT = 32 * 1024
LONGEST_TEXT = 20_000
"""Characters of an alert's texts that are searched for words."""
ALERT_SCORE, COMMON_ALERT_SCORE, LABEL_SCORE = 10.0, 1.5, 4.0
RARE_WORD_SCORE, WORD_SCORE = 2.0, 1.0
ENOUGH = 2.0
"""One word, or one alert, that more than MOST_MATCHES runbooks share tells none of them apart."""
_STOP_WORDS = frozenset(
    {"and", "are", "for", "from", "has", "how", "its", "not", "our", "redis", "runbook", "server",
     "that", "the", "then", "this", "too", "valkey", "what", "when", "why", "with"}
)  # fmt: skip
_SPACES = re.compile(r"[\W_]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class RunbookError(Exception):
    """A runbook file that cannot be loaded: which file and field, what is wrong, what to do."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def load_library(directories: Iterable[str | Path] = ()) -> Library:
    """The packaged runbooks and those of `directories`; a later one with the same id wins."""
    books = {book.id: book for book in map(load_runbook, runbook_files(PACKAGED))}
    problems: list[Problem] = []
    for directory in map(Path, directories):
        seen: dict[str, str] = {}
        for book in _load_folder(directory, problems):
            if book.id in seen:
                message = f"'{book.id}' is also the id of {seen[book.id]}"
                problems.append(_problem(book.path, "id", message, "give one of them another id"))
                continue
            seen[book.id] = book.path
            books[_free_id(book, books)] = book
    return Library(runbooks=list(books.values()), problems=problems)


def _free_id(book: Runbook, books: dict[str, Runbook]) -> str:
    """Prose adds to what the rules know and never takes the place of a runbook with causes."""
    if book.prose_only and book.id in books:
        book.front.id = f"{book.id}-prose"
    return book.id


def _load_folder(directory: Path, problems: list[Problem]) -> Iterator[Runbook]:
    try:
        files = runbook_files(directory)
    except RunbookError as error:
        problems.append(error.problem)
        return
    for path in files:
        try:
            yield load_runbook(path)
        except RunbookError as error:
            problems.append(error.problem)


def runbook_files(directory: Path) -> list[Path]:
    """The `*.md` of a folder, README.md left out, by name. Raises RunbookError."""
    try:
        files = sorted(
            path
            for path in directory.iterdir()
            if path.suffix.lower() == ".md"
            and path.stem.lower() != "readme"
            and not path.name.startswith(".")
            and path.is_file()  # a pipe or a device would block
        )
    except OSError as error:
        message = f"the folder cannot be read ({error.strerror})"
        remedy = "correct `runbooks:` in the configuration, or make the folder readable"
        raise RunbookError(_problem(str(directory), "folder", message, remedy)) from None
    if len(files) > MOST_FILES:
        message = f"{len(files)} runbooks; at most {MOST_FILES} are loaded"
        raise RunbookError(_problem(str(directory), "folder", message, "split the folder"))
    return files


def load_runbook(path: Path) -> Runbook:
    """One runbook, with front matter or only prose. Raises RunbookError."""
    text = _read(path)
    head, body = _split(path, text)
    if head is None:
        return Runbook(
            front=_front_from_prose(path, text), body=text, path=str(path), prose_only=True
        )
    return Runbook(front=_parse_front(path, head), body=body, path=str(path))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_FILE + 1)
    except OSError as error:
        remedy = "make it readable for the service's user, or remove it"
        raise RunbookError(_problem(str(path), "file", f"{error.strerror}", remedy)) from None
    if len(raw) > LARGEST_FILE:
        message = f"larger than {LARGEST_FILE // 1024} KiB"
        raise RunbookError(_problem(str(path), "file", message, "split it into several runbooks"))
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"not UTF-8 (byte {error.start})"
        raise RunbookError(_problem(str(path), "file", message, "save it as UTF-8")) from None
    # It is shown in terminals, pages and prompts: no escapes, no bidirectional overrides.
    return "\n".join(_clean(line) for line in text.replace("\r\n", "\n").split("\n"))


def _clean(line: str) -> str:
    return line if line.isprintable() else printable(line.expandtabs(4), 2 * len(line) + 8)


def _split(path: Path, text: str) -> tuple[str | None, str]:
    """Front matter (None: there is none) and body."""
    first, _, rest = text.partition("\n")
    if first.rstrip() != "---":
        return None, text
    end = re.search(r"^---[ ]*$", rest, re.MULTILINE)
    if end is None:
        message = "the front matter has a first `---` line but no second one"
        remedy = "close it with a line `---`, or remove the first one (prose only)"
        raise RunbookError(_problem(str(path), "front matter", message, remedy, line=1))
    head = rest[: end.start()]
    if len(head) > LONGEST_FRONT:
        message = f"longer than {LONGEST_FRONT // 1024} KiB"
        raise RunbookError(_problem(str(path), "front matter", message, "move prose to the body"))
    return head, rest[end.end() :].removeprefix("\n")


def _parse_front(path: Path, head: str) -> FrontMatter:
    try:
        has_alias, data = _read_yaml(head)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        message = f"not valid YAML ({printable(str(getattr(error, 'problem', None) or error))})"
        line = mark.line + 2 if mark else None
        remedy = "correct the YAML between the `---` lines; quote values that hold `: ` or `{`"
        raise RunbookError(_problem(str(path), "front matter", message, remedy, line)) from None
    if has_alias:
        message = "YAML aliases (`*name`) are not accepted"
        remedy = "write the value out where it is used"
        raise RunbookError(_problem(str(path), "front matter", message, remedy))
    if not isinstance(data, dict):
        message = "not a mapping of fields"
        remedy = "begin with `id: …` and `title: …`; runbooks/README.md shows the fields"
        raise RunbookError(_problem(str(path), "front matter", message, remedy, 2))
    try:
        return FrontMatter.model_validate(data)
    except ValidationError as error:
        raise RunbookError(_first_of(path, error)) from None


@lru_cache(maxsize=128)
def _read_yaml(head: str) -> tuple[bool, Any]:
    """Whether it has aliases, which could make it grow without end, and if not, what it says.

    The packaged runbooks are read again and again by whoever makes more than one library.
    """
    if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(head, Loader=SAFE)):
        return True, None
    return False, read_yaml(head)


def _first_of(path: Path, error: ValidationError) -> Problem:
    errors = error.errors(include_url=False, include_input=False)
    first = errors[0]
    field = printable(".".join(map(str, first["loc"])))
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    unknown = first["type"] == "extra_forbidden"
    message = "unknown field" if unknown else printable(first["msg"])
    remedy = "remove or correct it" if unknown else "correct its value"
    return _problem(str(path), field, f"{message}{more}", f"{remedy}; see runbooks/README.md")


def _front_from_prose(path: Path, text: str) -> FrontMatter:
    """What a team's own markdown says about itself: its title, words, and fenced commands."""
    title = printable(title_of(text)) or printable(path.stem)
    words = _words(f"{title} {path.stem}").split()
    return FrontMatter(
        id=_SPACES.sub("-", path.stem.lower()).strip("-")[:100] or "runbook",
        title=title,
        matches=Matches(words=list(dict.fromkeys(w for w in words if _tells(w)))),
        baseline=tools_in(text),
    )


def _tells(word: str) -> bool:
    return len(word) > 2 and word not in _STOP_WORDS


def _words(text: str) -> str:
    """Lower-case words parted by single spaces; `RedisMemoryHigh` is three."""
    return _SPACES.sub(" ", _CAMEL.sub(" ", text).lower()).strip()


def match(library: Library, alerts: Sequence[Alert], question: str = "") -> list[RunbookMatch]:
    """The few runbooks for these alerts and this question, best first, and why each.

    The baseline runbook is always among them: whatever else matched, the rules need its look.
    """
    text = _text_of(alerts, question)
    shared = _shared(library)
    scored = [
        (score, book, why)
        for book in library.runbooks
        for score, why in [_score(book, alerts, text, shared)]
        if score >= ENOUGH or (book.id == BASELINE and score > 0)
    ]
    scored.sort(key=lambda item: (-item[0], item[1].id != BASELINE, item[1].id))
    found = [RunbookMatch(id=book.id, why=why) for _, book, why in scored[:MOST_MATCHES]]
    if any(found_match.id == BASELINE for found_match in found):
        return found
    if not any(book.id == BASELINE for book in library.runbooks):
        return found
    why = "the baseline of every investigation" + ("" if found else ": no runbook matched")
    return [*found[: MOST_MATCHES - 1], RunbookMatch(id=BASELINE, why=why)]


def _text_of(alerts: Sequence[Alert], question: str) -> str:
    parts = [question]
    for alert in alerts:
        parts += [alert.name, *alert.annotations.values(), *alert.labels.values()]
    return f" {_words(' '.join(parts)[:LONGEST_TEXT])} "


def _shared(library: Library) -> Counter[str]:
    """How many runbooks ask for each word and each alert (`alert:` before its squeezed name)."""
    return Counter(
        mark
        for book in library.runbooks
        for mark in {_words(word) for word in book.front.matches.words}
        | {f"alert:{_squeezed(name)}" for name in book.front.matches.alerts}
    )


def _squeezed(name: str) -> str:
    return _SPACES.sub("", name.lower())


def _score(
    book: Runbook, alerts: Sequence[Alert], text: str, shared: Counter[str]
) -> tuple[float, str]:
    wanted = book.front.matches
    firing = {_squeezed(alert.name) for alert in alerts}
    names = [
        name for name in wanted.alerts if _squeezed(name) in firing or f" {_words(name)} " in text
    ]
    labels = [
        f"{name}={value}"
        for name, value in wanted.labels.items()
        if any(alert.labels.get(name, "").casefold() == value.casefold() for alert in alerts)
    ]
    words = [word for word in wanted.words if _words(word) and f" {_words(word)} " in text]
    score = LABEL_SCORE * len(labels)
    for name in names:
        common = shared[f"alert:{_squeezed(name)}"] > MOST_MATCHES
        score += COMMON_ALERT_SCORE if common else ALERT_SCORE
    score += sum(RARE_WORD_SCORE if shared[_words(w)] == 1 else WORD_SCORE for w in words)
    reasons = [
        f"{kind} {', '.join(printable(item, 60) for item in found[:8])}"
        for kind, found in (("alert", names), ("label", labels), ("words", words))
        if found
    ]
    return score, f"{'; '.join(reasons)} (score {score:g})"


def _problem(file: str, field: str, message: str, remedy: str, line: int | None = None) -> Problem:
    return Problem(file=file, line=line, field=field, message=message, remedy=remedy)
