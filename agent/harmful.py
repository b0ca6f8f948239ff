"""Commands that no runbook may hand to a person at 3 a.m. in a fence, ready to be pasted.

A section such as "What not to do" names them in prose.
"""

import re
from collections.abc import Callable, Iterator

from agent.runbook_prose import Spelled, commands_of, lines_of

_Words = tuple[str, ...]


def _always(_: _Words) -> bool:
    return True


def _second(*names: str) -> Callable[[_Words], bool]:
    return lambda words: len(words) > 1 and words[1].upper() in names


def _sets(*names: str) -> Callable[[_Words], bool]:
    return lambda words: words[1:2] == ("SET",) and any(w.lower() in names for w in words[2::2])


def _stops_writes_no(words: _Words) -> bool:
    return " ".join(words[1:4]).lower() == "set stop-writes-on-bgsave-error no"


def _kills_by_type(words: _Words) -> bool:
    return words[1:2] == ("KILL",) and "TYPE" in map(str.upper, words[2:])


def _opens_access(words: _Words) -> bool:
    rules = {word.lower() for word in words[2:]}
    return words[1:2] == ("SETUSER",) and bool(rules & {"nopass", "+@all", "allcommands"})


def _flushes_synchronously(words: _Words) -> bool:
    return words[1:2] == ("FLUSH",) and [w.upper() for w in words[2:3]] != ["ASYNC"]


_DATA_LOSS = "it deletes data; use a typed remedy with a backup, or name it in prose only"
_BLOCKS = "it blocks every client"
_HARMFUL: tuple[tuple[str, Callable[[_Words], bool], str], ...] = (
    ("FLUSHALL", _always, _DATA_LOSS),
    ("FLUSHDB", _always, _DATA_LOSS),
    ("SHUTDOWN", _always, "a restart loses what is not on disk; hand it to a person"),
    ("KEYS", _always, f"{_BLOCKS}; use SCAN"),
    ("DEL", _always, f"{_BLOCKS} on a big key; use UNLINK after an export"),
    ("SAVE", _always, f"{_BLOCKS}; use BGSAVE"),
    ("MONITOR", _always, "it halves throughput and shows values; use SLOWLOG"),
    ("DEBUG", _always, "it can stop or crash the server"),
    ("HGETALL", _always, f"{_BLOCKS} on a big key; use HSCAN or HLEN"),
    ("SMEMBERS", _always, f"{_BLOCKS} on a big key; use SSCAN or SCARD"),
    ("REPLICAOF", _second("NO"), "it splits the data; fix the link instead"),
    ("SLAVEOF", _second("NO"), "it splits the data; fix the link instead"),
    ("CLUSTER", _second("RESET", "FLUSHSLOTS"), "it forgets the cluster"),
    ("MODULE", _second("UNLOAD"), "it makes the module's data unreadable"),
    ("XGROUP", _second("DESTROY"), "it forgets what is pending"),
    ("SCRIPT", _flushes_synchronously, "it blocks; use SCRIPT FLUSH ASYNC after the fix"),
    ("CLIENT", _kills_by_type, "it cuts off the innocent too; use CLIENT KILL ID"),
    ("ACL", _opens_access, "it opens the server to everybody"),
    ("CONFIG", _sets("requirepass", "masterauth", "masteruser"), "it locks clients out"),
    ("CONFIG", _sets("dir", "dbfilename", "enable-debug-command"), "it is how servers are taken"),
    ("CONFIG", _stops_writes_no, "it hides that nothing is saved; fix the disk"),
)
_SHELL: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (re.compile(r"\brm\b.*\.(aof|rdb)\b"), "deleting persistence files", _DATA_LOSS),
    (
        re.compile(r"\bkill\s+(-9|-KILL|-s\s*KILL)\b"),
        "killing the server outright",
        "it loses what is not on disk; hand it to a person",
    ),
)


def harm_in(body: str) -> Iterator[tuple[int, str, str, str]]:
    """(line, section, message, remedy) of each harmful command in a fence."""
    for command in commands_of(body):
        if (reason := _harm(command)) is not None:
            shown = " ".join(command.words[:3])[:60]
            message = f"harmful command `{shown}` in an executable fence"
            yield command.line, command.section, message, reason
    for line in lines_of(body):
        for pattern, what, reason in _SHELL:
            if line.fence is not None and pattern.search(line.text.partition("# ")[0]):
                yield line.number, line.section, f"{what} in an executable fence", reason


def _harm(command: Spelled) -> str | None:
    words = command.words
    return next(
        (reason for name, matches, reason in _HARMFUL if words[0] == name and matches(words)),
        None,
    )
