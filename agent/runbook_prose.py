"""What the prose of a runbook says: sections, fences, the Redis commands in them, and their tools.

Nothing found here is ever run. A command in prose only chooses a read-only tool of our own.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST_LINE = 2_000
MOST_COMMANDS = 500
_HEADING = re.compile(r"(#{1,6})\s+(.*)")
_FENCE = re.compile(r"\s*(`{3,}|~{3,})\s*(\S*)")
_CLIENTS = frozenset({"redis-cli", "valkey-cli", "keydb-cli"})
_PUNCTUATION = frozenset("();<>|&")
_WITH_VALUE = frozenset(
    {"-h", "-p", "-s", "-a", "-u", "-n", "-r", "-i", "-t", "-d", "-D", "-X", "--user", "--pass",
     "--sni", "--cacert", "--cacertdir", "--cert", "--key", "--tls-ciphers", "--pattern",
     "--count", "--intrinsic-latency", "--show-pushes"}
)  # fmt: skip
_PROMPT = re.compile(r"^\s*(?:[$%]\s+(?=\S)|(?:[\w.:\[\]-]+)?>\s+)")
_CHECKLIST_LINE = re.compile(
    r"\s*[-*]\s+\[[ xX]\]\s+(\S.*?)\s*(?:<!--\s*check:\s*([\w-]+)\s*-->)?\s*"
)
_NO_CLIENT_NEEDED = frozenset({"FLUSHALL", "FLUSHDB"})


@dataclass(frozen=True)
class Line:
    """One line of the markdown: its section (level 2) and the language of its fence."""

    number: int
    text: str
    section: str
    fence: str | None
    """None outside a fence; "" inside one without a language."""


@dataclass(frozen=True)
class Spelled:
    """A Redis command as a fence spells it."""

    line: int
    section: str
    words: tuple[str, ...]
    """The first two in upper case; an option such as `--bigkeys` as it is."""


def lines_of(body: str) -> Iterator[Line]:
    """Every line with its section and fence. Headings inside a fence are comments, not sections."""
    section, fence, closes = "", None, ""
    for number, raw in enumerate(body.splitlines(), start=1):
        text = raw[:LONGEST_LINE]
        marker = _FENCE.match(text)
        if marker and fence is None:
            fence, closes = marker.group(2).lower(), marker.group(1)
        elif marker and not marker.group(2) and marker.group(1).startswith(closes):
            fence = None
        else:
            heading = _HEADING.match(text) if fence is None else None
            if heading and len(heading.group(1)) == 2:
                section = heading.group(2).strip()
            yield Line(number, text, section, fence)


def title_of(body: str) -> str:
    """The first heading, else the first line of text, else nothing."""
    first = ""
    for line in lines_of(body):
        if line.fence is not None:
            continue
        if heading := _HEADING.match(line.text):
            return heading.group(2).strip()
        first = first or line.text.strip()
    return first


def sections_of(body: str) -> dict[str, int]:
    """Level-2 headings and their lines."""
    found: dict[str, int] = {}
    for line in lines_of(body):
        if line.section and line.section not in found:
            found[line.section] = line.number
    return found


@dataclass(frozen=True)
class ChecklistLine:
    """A `- [ ]` line, and the check that a comment after it names: `<!-- check: swap -->`."""

    text: str
    check: str | None


def checklist_of(body: str) -> list[ChecklistLine]:
    """The `- [ ]` items of the section Production Checklist."""
    items = (
        _CHECKLIST_LINE.fullmatch(line.text)
        for line in lines_of(body)
        if line.fence is None and line.section.casefold() == "production checklist"
    )
    return [ChecklistLine(item[1], item[2]) for item in items if item]


def commands_of(body: str) -> list[Spelled]:
    """Redis commands in fences: after `redis-cli`, after a prompt, or upper case at the start."""
    found: list[Spelled] = []
    for line in _joined(body):
        for words in _commands_in(line.text, line.fence or ""):
            found.append(Spelled(line.number, line.section, words))
            if len(found) >= MOST_COMMANDS:
                return found
    return found


def _joined(body: str) -> Iterator[Line]:
    """Lines of fences, with those that end in a backslash continued."""
    held: Line | None = None
    for line in lines_of(body):
        if line.fence is None:
            held = None
            continue
        text = f"{held.text} {line.text}" if held else line.text
        whole = Line(held.number if held else line.number, text, line.section, line.fence)
        if text.endswith("\\") and len(text) < LONGEST_LINE:
            held = Line(whole.number, text[:-1], whole.section, whole.fence)
        else:
            held = None
            yield whole


def _commands_in(text: str, language: str) -> Iterator[tuple[str, ...]]:
    prompted = _PROMPT.match(text)
    for index, part in enumerate(_split(text[prompted.end() :] if prompted else text)):
        client = next((i for i, word in enumerate(part) if _program(word) in _CLIENTS), None)
        if client is not None:
            yield from _spelled(part[client + 1 :])
        elif index == 0 and part and _is_bare(part[0], language, prompted is not None):
            yield from _spelled(part)
        yield from _scripted(part)


def _split(text: str) -> list[list[str]]:
    """The commands of a shell line, comment left out."""
    text = text.replace("`", " ( ")
    shell = shlex.shlex(text, posix=True, punctuation_chars=True)
    shell.whitespace_split = True
    try:
        words = list(shell)
    except ValueError:  # an open quote: prose, or a value over several lines
        words = re.sub(r"([();<>|&]+)", r" \1 ", text.partition(" #")[0]).split()
    parts: list[list[str]] = [[]]
    for word in words:
        if _PUNCTUATION.issuperset(word):
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _program(word: str) -> str:
    return word.rpartition("/")[2]


def _is_bare(word: str, language: str, prompted: bool) -> bool:
    """A command without `redis-cli` before it, as typed at a redis-cli prompt."""
    if word.upper() in _NO_CLIENT_NEEDED:
        return True
    return word.isupper() or (word.isalpha() and (prompted or language in ("redis", "valkey")))


def _spelled(words: list[str]) -> Iterator[tuple[str, ...]]:
    """What redis-cli is asked: an option that is a command of its own, or the command."""
    rest = iter(words)
    for word in rest:
        if word in _WITH_VALUE:
            next(rest, None)
        elif word.startswith("-"):
            yield (word.partition("=")[0],)
        else:
            command = (*word.split(), *rest)  # redis-cli "CONFIG GET x" is one word
            yield tuple(part.upper() for part in command[:2]) + tuple(command[2:12])
            return


def _scripted(words: list[str]) -> Iterator[tuple[str, ...]]:
    """Commands that a Lua script calls."""
    for word in words:
        for called in re.findall(r"p?call\(\s*['\"](\w+)['\"]", word):
            yield (called.upper(),)


# Longest match first. A section of INFO without a tool of its own is read by the nearest.
_TOOLS: dict[tuple[str, ...], str] = {
    ("--bigkeys",): "bigkeys",
    ("--memkeys",): "bigkeys",
    ("--keystats",): "bigkeys",
    ("--hotkeys",): "command_stats",
    ("--stat",): "stats",
    ("--scan",): "keyspace",
    ("--latency",): "latency_latest",
    ("--latency-history",): "latency_latest",
    ("--latency-dist",): "latency_histogram",
    ("INFO",): "server_info",
    ("INFO", "SERVER"): "server_info",
    ("INFO", "MEMORY"): "memory_info",
    ("INFO", "CLIENTS"): "clients",
    ("INFO", "STATS"): "stats",
    ("INFO", "CPU"): "stats",
    ("INFO", "REPLICATION"): "replication",
    ("INFO", "PERSISTENCE"): "persistence",
    ("INFO", "KEYSPACE"): "keyspace",
    ("INFO", "COMMANDSTATS"): "command_stats",
    ("INFO", "LATENCYSTATS"): "latency_histogram",
    ("INFO", "ERRORSTATS"): "error_stats",
    ("INFO", "MODULES"): "modules",
    ("MEMORY", "STATS"): "memory_stats",
    ("MEMORY", "DOCTOR"): "memory_doctor",
    ("MEMORY", "USAGE"): "bigkeys",
    ("CONFIG", "GET"): "config_get",
    ("SLOWLOG",): "slowlog",
    ("COMMANDLOG",): "slowlog",
    ("CLIENT", "LIST"): "clients",
    ("CLIENT", "INFO"): "clients",
    ("LATENCY",): "latency_latest",
    ("LATENCY", "HISTOGRAM"): "latency_histogram",
    ("LATENCY", "DOCTOR"): "latency_doctor",
    ("XINFO",): "stream_info",
    ("XLEN",): "stream_info",
    ("XPENDING",): "stream_info",
    ("ACL", "LOG"): "acl_log",
    ("MODULE", "LIST"): "modules",
    ("SCRIPT",): "scripts",
    ("FUNCTION",): "scripts",
    ("ROLE",): "replication",
    ("DBSIZE",): "keyspace",
    ("SCAN",): "keyspace",
    ("TTL",): "keyspace",
    ("PTTL",): "keyspace",
    ("OBJECT",): "bigkeys",
    ("TYPE",): "bigkeys",
    ("STRLEN",): "bigkeys",
    ("HLEN",): "bigkeys",
    ("LLEN",): "bigkeys",
    ("SCARD",): "bigkeys",
    ("ZCARD",): "bigkeys",
    ("PING",): "server_info",
    ("TIME",): "server_info",
}
MAPPED_TOOLS: frozenset[str] = frozenset(_TOOLS.values())


def tool_for(words: tuple[str, ...]) -> str | None:
    """The read-only tool that looks where this command looks; None for everything else."""
    upper = tuple(word if word.startswith("--") else word.upper() for word in words[:2])
    return _TOOLS.get(upper) or _TOOLS.get(upper[:1])


def tools_in(body: str) -> list[str]:
    """Tools for the commands of the fences, in their order, each once."""
    tools = (tool_for(command.words) for command in commands_of(body))
    return list(dict.fromkeys(name for name in tools if name))
