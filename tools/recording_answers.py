"""What a recording can answer: exactly what was asked, else what follows from it.

Every rule takes the recording, the command and the virtual time, and returns the outcome in a
tuple, or None when the recording does not hold it.
"""

import fnmatch
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from math import inf

from tools.connection import Argument, Reply
from tools.permissions import acl_name, takes_subcommand
from tools.reading import FailureKind
from tools.recording_file import Failure, Outcome, Recording, Words

LINK_FAILURES: frozenset[FailureKind] = frozenset(
    {"timeout", "connection_lost", "unreachable", "unresolvable", "maxclients"}
)
"""Failures of the link, not of one command: they end the whole round trip."""
_FOR_EVERYBODY: frozenset[FailureKind] = LINK_FAILURES | frozenset(
    {"refused", "unknown_command", "auth", "misconf", "busy", "loading", "masterdown"}
)
"""Failures that any other arguments of the same command would have met too."""
KEYED: frozenset[bytes] = frozenset(
    b"TYPE TTL PTTL EXPIRETIME PEXPIRETIME STRLEN HLEN LLEN SCARD ZCARD".split()
)
KEYED_CONTAINERS: frozenset[bytes] = frozenset({b"OBJECT", b"MEMORY"})
ASKED_OF_KEYS: dict[tuple[Argument, ...], str] = {
    tuple(column.split()): column
    for column in (
        *(word.decode() for word in KEYED),
        "MEMORY USAGE", "OBJECT ENCODING", "OBJECT FREQ", "OBJECT IDLETIME",
    )
}  # fmt: skip
"""A command without its key, as tools write it, and its column."""
INTRODUCTION = "client|setname"
"""Answered without asking: it changes nothing that a tool can see."""
_NOT_BY_DEFAULT = frozenset({b"commandstats", b"latencystats", b"modules", b"keysizes"})

Answer = tuple[Outcome] | None
Rule = Callable[[Recording, Words, float], Answer]


def normalised(command: tuple[Argument, ...]) -> Words:
    """A command as recordings know it."""
    first, has_subcommand = _first_word(command[0])
    rest = [p if isinstance(p, bytes) else str(p).encode() for p in command[1:]]
    if first in _NAMING_FIELDS:
        rest = [part.lower() for part in rest]
    if has_subcommand and rest:
        rest[0] = rest[0].upper()
    return (first, *rest)


_NAMING_FIELDS = (b"INFO", b"CONFIG")


@lru_cache(1_024)
def _first_word(word: Argument) -> tuple[bytes, bool]:
    """As it is known, and whether the next one belongs to it: there are few of them."""
    known = (word if isinstance(word, bytes) else str(word).encode()).upper()
    return known, takes_subcommand(known)


def cell_of(words: Words) -> tuple[str, bytes] | None:
    """For a command on one key that the key table answers: its column and the key."""
    if words[0] in KEYED and len(words) == 2:
        return words[0].decode(), words[1]
    if words[0] == b"OBJECT" and len(words) == 3:
        return b" ".join(words[:2]).decode("utf-8", "replace"), words[2]
    if words[:2] == (b"MEMORY", b"USAGE") and len(words) in (3, 5):
        if len(words) == 3:
            return "MEMORY USAGE", words[2]
        rest = [word.upper() for word in words[3:]]
        return b" ".join([*words[:2], *rest]).decode("utf-8", "replace"), words[2]
    return None


def answer(recording: Recording, words: Words, when: float) -> Answer:
    """The outcome of a command at a virtual time, or None: not recorded."""
    if cell := cell_of(words):
        return _cell(recording, *cell)
    if exact := recording.at(words, when):
        return exact
    name = acl_name(words)
    if name == INTRODUCTION:
        return (b"OK",)
    if (rule := _RULES.get(name)) and (found := rule(recording, words, when)):
        return found
    return _as_others_failed(recording, name, when)


def _as_others_failed(recording: Recording, name: str, when: float) -> Answer:
    for words in recording.frames:
        if acl_name(words) == name:
            found = recording.at(words, when)
            if found and isinstance(found[0], Failure) and found[0].kind in _FOR_EVERYBODY:
                return (_of_the_kind(found[0]),)
    return None


def _of_the_kind(failure: Failure) -> Failure:
    """The failure of a sibling, to be worded for the command at hand."""
    return Failure(failure.kind, failure.text, failure.remedy)


def _cell(recording: Recording, column: str, key: bytes) -> Answer:
    table = recording.table
    cells = table.keys.get(key, {})
    if column in cells:
        return (cells[column],)
    for name in _columns_for(column, cells):
        if name in cells:
            return (cells[name],)
    if column == "TTL" and isinstance(milliseconds := cells.get("PTTL"), int):
        return (milliseconds if milliseconds < 0 else (milliseconds + 500) // 1000,)
    if column.endswith("EXPIRETIME") and isinstance(milliseconds := cells.get("PTTL"), int):
        captured = datetime.fromisoformat(recording.header.captured_at).timestamp()
        at = milliseconds if milliseconds < 0 else int(captured * 1000) + milliseconds
        return (at if column[0] == "P" or at < 0 else at // 1000,)
    if failure := table.failures.get(column):
        return (_of_the_kind(failure),)
    return None


def _columns_for(column: str, cells: dict[str, Reply]) -> list[str]:
    """MEMORY USAGE by fewer samples is answered by one with more, never the other way."""
    if not column.startswith("MEMORY USAGE"):
        return [column]
    sizes = [name for name in cells if name.startswith("MEMORY USAGE")]
    return sorted((n for n in sizes if _samples(n) >= _samples(column)), key=_samples)


def _samples(column: str) -> float:
    """Elements that MEMORY USAGE looks at: five unless told, 0 stands for all."""
    count = column.rpartition(" SAMPLES ")[2] if " SAMPLES " in column else "5"
    return (int(count) or inf) if count.isdigit() else 5


def _info(recording: Recording, words: Words, when: float) -> Answer:
    everything = recording.at((b"INFO", b"everything"), when)
    if everything is None or not isinstance(everything[0], bytes):
        return everything
    sections = dict(_sections(everything[0]))
    wanted = set(words[1:]) or {b"default"}
    if wanted & {b"all", b"everything"}:
        wanted |= set(sections)
    if b"default" in wanted:
        wanted |= set(sections) - _NOT_BY_DEFAULT
    return (b"\r\n".join(text for name, text in sections.items() if name in wanted),)


def _sections(info: bytes) -> Iterator[tuple[bytes, bytes]]:
    for text in re.split(rb"\r?\n(?=# )", info):
        yield text.partition(b"\n")[0].strip(b"# \r").lower(), text.rstrip(b"\r\n") + b"\r\n"


def _config(recording: Recording, words: Words, when: float) -> Answer:
    asked: set[bytes] = set()
    values: dict[bytes, Reply] = {}
    for known in recording.frames:
        if known[:2] != (b"CONFIG", b"GET"):
            continue
        found = recording.at(known, when)
        if found and isinstance(found[0], list):
            asked |= set(known[2:])
            values |= {
                name: found[0][place + 1]
                for place, name in enumerate(found[0][:-1])
                if place % 2 == 0 and isinstance(name, bytes)
            }
    if not asked.issuperset(words[2:]):
        return None
    flat: list[Reply] = []
    for name in words[2:]:
        if name in values:
            flat += [name, values[name]]
    return (flat,)


def _newest(recording: Recording, words: Words, when: float) -> Answer:
    """SLOWLOG GET n and COMMANDLOG GET n type, from a longer or an exhausted answer."""
    wanted = _count(words)
    for known in recording.frames:
        if known[:2] != words[:2] or known[3:] != words[3:]:
            continue
        found = recording.at(known, when)
        if found and isinstance(found[0], list):
            entries = found[0]
            if _count(known) >= wanted or len(entries) < _count(known):
                return (entries if wanted == inf else entries[: int(wanted)],)
    return None


def _count(words: Words) -> float:
    if len(words) < 3:
        return 10  # what the server assumes
    try:
        return inf if int(words[2]) < 0 else int(words[2])
    except ValueError:
        return 10


def _clients(recording: Recording, words: Words, when: float) -> Answer:
    """CLIENT LIST ID … and TYPE … from the whole list."""
    everybody = recording.at((b"CLIENT", b"LIST"), when)
    if everybody is None or not isinstance(everybody[0], bytes) or len(words) < 4:
        return None
    lines = everybody[0].splitlines(keepends=True)
    if words[2].upper() == b"ID":
        return (b"".join(line for line in lines if _field(line, b"id") in words[3:]),)
    if words[2].upper() == b"TYPE":
        wanted = words[3].lower()
        return (b"".join(line for line in lines if _type_of(_field(line, b"flags")) == wanted),)
    return None


def _field(line: bytes, name: bytes) -> bytes:
    match = re.search(rb"(?:^| )" + name + rb"=(\S*)", line)
    return match[1] if match else b""


def _type_of(flags: bytes) -> bytes:
    if b"M" in flags:
        return b"master"
    if b"S" in flags:  # monitors (O) count as replicas in older servers' flags, too
        return b"replica"
    return b"pubsub" if b"P" in flags else b"normal"


def _dbsize(recording: Recording, _words: Words, when: float) -> Answer:
    found = _info(recording, (b"INFO", b"keyspace"), when)
    if found is None or not isinstance(found[0], bytes):
        return found
    match = re.search(rb"^db0:keys=(\d+)", found[0], re.MULTILINE)
    return (int(match[1]) if match else 0,)


def _time(recording: Recording, _words: Words, when: float) -> Answer:
    captured = datetime.fromisoformat(recording.header.captured_at)
    now = (captured + timedelta(seconds=when)).timestamp()
    return ([str(int(now)).encode(), str(int(now % 1 * 1e6)).encode()],)


def _scan(recording: Recording, words: Words, _when: float) -> Answer:
    """Pages of the key table. A table that was cut ends in "not recorded", not in cursor 0."""
    table = recording.table
    if not table.keys and "SCAN" in table.failures:
        return (_of_the_kind(table.failures["SCAN"]),)
    options = {words[place].upper(): words[place + 1] for place in range(2, len(words) - 1, 2)}
    kind = options.get(b"TYPE", b"").lower()
    keys = list(table.keys)
    if len(table.scanned) < len(keys):
        keys = [
            k for k in keys if k in table.scanned or (kind and table.keys[k].get("TYPE") == kind)
        ]
    cursor = int(words[1]) if words[1].isdigit() else 0
    whole = bool(table.complete & {"", kind.decode("utf-8", "replace")})
    start = cursor if cursor <= len(keys) else 0  # a cursor drawn at random: any start is fair
    if start == len(keys) and not whole:
        return None
    count = options.get(b"COUNT", b"10")
    end = start + max(1, int(count) if count.isdigit() else 10)
    pattern = options.get(b"MATCH")
    page: list[Reply] = [
        key
        for key in keys[start:end]
        if (not kind or table.keys[key].get("TYPE") == kind)
        and (pattern is None or matches(key, pattern))
    ]
    done = end >= len(keys)
    following = 0 if done and whole else min(end, len(keys))
    return ([str(following).encode(), page],)


def matches(key: bytes, pattern: bytes) -> bool:
    """Redis' glob: fnmatch with backslash to quote a character and `^` to negate a class."""
    text = re.sub(rb"\\(.)|\[\^", _glob_part, pattern, flags=re.DOTALL)
    return fnmatch.fnmatchcase(key.decode("latin-1"), text.decode("latin-1"))


def _glob_part(match: re.Match[bytes]) -> bytes:
    if match[1] is None:
        return b"[!"
    return b"[" + match[1] + b"]" if match[1] in b"*?[" else match[1]


_RULES: dict[str, Rule] = {
    "info": _info,
    "config|get": _config,
    "slowlog|get": _newest,
    "commandlog|get": _newest,
    "client|list": _clients,
    "dbsize": _dbsize,
    "time": _time,
    "scan": _scan,
    "ping": lambda _recording, _words, _when: (b"PONG",),
}
