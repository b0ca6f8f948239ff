"""Remedies, judged by the truth and the server: what helps, what harms, what is missing. Pure.

The knowledge is `remedies.yaml`, not the agent's own tables: a reasoner cannot mark its own work.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from agent.incident import Action, Words
from evals.truth import Truth
from tools.plain_yaml import read_yaml

UNKNOWN = "unknown"
_UNITS = {
    "": 1,
    "b": 1,
    "k": 1000,
    "kb": 1024,
    "m": 10**6,
    "mb": 1024**2,
    "g": 10**9,
    "gb": 1024**3,
}
_SIZE = re.compile(r"(\d{1,18})([a-z]{0,2})")
_OF_ONE_KEY = ("trim_stream", "trim_collection", "clear_pending")
_TARGETS = ("name", "address")
"""Arguments that say whom a disconnection hits."""

Pattern = dict[str, str | list[str]]


class Harm(Words):
    """A move that makes it worse, and why."""

    why: str
    pattern: Pattern | None = None
    """None: the move of that name."""


class Entry(Words):
    """What the catalogue says about one cause."""

    topics: list[str] = Field(default_factory=list)
    fixes: list[str | Pattern] = Field(default_factory=list)
    harms: dict[str, Harm] = Field(default_factory=dict)
    harms_alone: dict[str, Harm] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _spelt_out(cls, data: Any) -> Any:
        """A harm that is only a reason belongs to the move of its name."""
        filled = dict(data)
        for field in ("harms", "harms_alone"):
            filled[field] = {
                move: {"why": harm} if isinstance(harm, str) else harm
                for move, harm in filled.get(field, {}).items()
            }
        return filled


class Knowledge(Words):
    """All of `remedies.yaml`."""

    moves: dict[str, list[Pattern]]
    always: list[Pattern]
    causes: dict[str, Entry]


@cache
def knowledge() -> Knowledge:
    """The table. Raises ValidationError for a bad one."""
    text = (Path(__file__).parent / "remedies.yaml").read_text("utf-8")
    return Knowledge.model_validate(read_yaml(text))


@dataclass(frozen=True)
class Server:
    """What judging needs to know of the server. None or empty: not measured."""

    policy: str = "noeviction"
    used: int | None = None
    parameters: Mapping[str, str] | None = None

    @classmethod
    def seen_in(cls, readings: Mapping[str, dict[str, Any]]) -> "Server":
        """From readings by tool."""
        memory = readings.get("memory_info", {})
        known = readings.get("config_get", {}).get("parameters", {})
        parameters = {k: str(v) for k, v in known.items() if not isinstance(v, dict)}
        for field, parameter in (
            ("maxmemory", "maxmemory"),
            ("maxmemory_policy", "maxmemory-policy"),
        ):
            if isinstance(memory.get(field), int | str):
                parameters.setdefault(parameter, str(memory[field]))
        used = memory.get("used_memory")
        return cls(
            policy=parameters.get("maxmemory-policy", "noeviction"),
            used=used if isinstance(used, int) else None,
            parameters=parameters,
        )


@dataclass(frozen=True)
class Judged:
    """One proposal, judged."""

    verdict: Literal["correct", "harmful", "harmful advice", "other"]
    """`other`: neither listed as a fix nor as wrong."""
    why: str = ""


def harmful(action: Action, truth: Truth, policy: str = "noeviction") -> str:
    """Why this proposal alone would do harm to that server; empty if it would not."""
    judged = judge(action, truth, Server(policy=policy), alone=False)
    return judged.why if judged.verdict == "harmful" else ""


def judge_all(actions: Sequence[Action], truth: Truth, server: Server) -> list[Judged]:
    """Each proposal of a plan."""
    alone = not any(_fixes(action, truth, server) for action in actions)
    return [judge(action, truth, server, alone=alone) for action in actions]


def judge(action: Action, truth: Truth, server: Server, *, alone: bool) -> Judged:
    """One proposal; `alone`: no fix is proposed beside it.

    Where something is both a fix of one true cause and wrong for another one, it is a fix: two
    faults are two.
    """
    why = _harms_always(action, truth, server)
    if not why and _fixes(action, truth, server):
        return Judged("correct")
    why = why or _harms(action, truth, server, alone=alone)
    if why:
        return Judged("harmful" if action.executable else "harmful advice", why)
    return Judged("other")


def missing(actions: Sequence[Action], truth: Truth, server: Server) -> list[str]:
    """True causes for which no fix is proposed; of the names for one cause, the first.

    Nothing is missing where nothing is wrong or nobody can know the cause.
    """
    if not truth.is_incident or UNKNOWN in truth.root_cause:
        return []
    proposed = [a for a in actions if not _harms_always(a, truth, server)]
    needed = [[cause] for cause in truth.also]
    if not set(truth.also) & set(truth.root_cause):
        needed.append(truth.root_cause)
    return [
        names[0]
        for names in needed
        if not any(_fix_of(name, action, truth, server) for name in names for action in proposed)
    ]


# -- what helps -----------------------------------------------------------------------------


def _causes(truth: Truth) -> list[str]:
    return list(dict.fromkeys([*truth.root_cause, *truth.also]))


def _fixes(action: Action, truth: Truth, server: Server) -> bool:
    if not truth.is_incident:
        return False
    return any(_fix_of(cause, action, truth, server) for cause in _causes(truth))


def _fix_of(cause: str, action: Action, truth: Truth, server: Server) -> bool:
    entry = knowledge().causes.get(cause)
    if entry is None:
        return False
    if action.kind == "advise_application":
        return action.arguments.get("topic") in (cause, *entry.topics)
    return any(_does(fix, action, truth, server) for fix in entry.fixes)


# -- what harms -----------------------------------------------------------------------------


def _harms_always(action: Action, truth: Truth, server: Server) -> str:
    for pattern in knowledge().always:
        asked = {name: value for name, value in pattern.items() if name != "why"}
        if _matches(asked, action, truth, server):
            return str(pattern["why"])
    if action.executable and not truth.is_incident:
        return "nothing is wrong with this server"
    if action.executable and truth.root_cause == [UNKNOWN]:
        return "nobody knows what is wrong: nothing may be changed"
    return _misses_the_culprit(action, truth) or _harmful_setting(action, server)


def _harmful_setting(action: Action, server: Server) -> str:
    """What is wrong on this very server: needs its numbers."""
    if action.kind != "set_config":
        return ""
    parameter, value = (str(action.arguments.get(name)) for name in ("parameter", "value"))
    spares = not server.policy.startswith("allkeys-")
    if parameter == "maxmemory-policy" and value.startswith("allkeys-") and spares:
        return "keys of a datastore would be evicted"
    if parameter == "maxmemory":
        size = in_bytes(value)
        if size == 0:
            return "no limit at all: the kernel will kill the server"
        if size is not None and server.used is not None and size < server.used:
            return "below what is in use: keys are evicted or writes refused at once"
    return ""


def _misses_the_culprit(action: Action, truth: Truth) -> str:
    """Somebody else's connection or keys, where the truth knows whose they are."""
    names = {one.name for one in truth.culprit if one.kind in ("client", "replica")}
    if action.kind.startswith("kill_") and names:
        targets = [str(action.arguments[name]) for name in _TARGETS if action.arguments.get(name)]
        if action.arguments.get("type") == "replica":
            # A replica is named by the port it listens on; its link comes from another one.
            names, targets = _hosts(names), list(_hosts(targets))
        if targets and not names.intersection(targets):
            return "it disconnects a bystander"
    prefixes = tuple(one.name for one in truth.culprit if one.kind == "prefix")
    prefix = str(action.arguments.get("prefix", ""))
    if action.kind == "expire_prefix" and prefixes and not prefix.startswith(prefixes):
        return "it expires keys of a bystander"
    keys = {one.name for one in truth.culprit if one.kind in ("key", "stream")}
    if action.kind in _OF_ONE_KEY and keys and action.arguments.get("key") not in keys:
        return "it empties a bystander's key"
    return ""


def _hosts(addresses: Iterable[str]) -> set[str]:
    return {address.rpartition(":")[0] or address for address in addresses}


def _harms(action: Action, truth: Truth, server: Server, *, alone: bool) -> str:
    for cause in _causes(truth):
        entry = knowledge().causes.get(cause, Entry())
        listed = entry.harms | (entry.harms_alone if alone else {})
        for move, harm in listed.items():
            if _does(harm.pattern or move, action, truth, server):
                return harm.why
    return ""


# -- patterns -------------------------------------------------------------------------------


def _does(move: str | Pattern, action: Action, truth: Truth, server: Server) -> bool:
    patterns = knowledge().moves[move] if isinstance(move, str) else [move]
    return any(_matches(pattern, action, truth, server) for pattern in patterns)


def _matches(pattern: Pattern, action: Action, truth: Truth, server: Server) -> bool:
    return all(_fits(name, wanted, action, truth, server) for name, wanted in pattern.items())


def _fits(name: str, wanted: str | list[str], action: Action, truth: Truth, server: Server) -> bool:
    globs = [wanted] if isinstance(wanted, str) else wanted
    if name == "commands":
        found = [" ".join(command).lower() for command in action.commands]
    elif name == "kind":
        found = [action.kind]
    elif name == "change":
        found = [_change(action, server)]
    elif name in ("below", "at_least"):
        size, bound = (in_bytes(str(text)) for text in (action.arguments.get("value"), wanted))
        return size is not None and bound is not None and (size < bound) is (name == "below")
    elif name in action.arguments:
        found = [str(action.arguments[name]).lower()]
    else:
        return False
    if globs == ["{culprit}"]:
        names = tuple(one.name.lower() for one in truth.culprit if one.name)
        return any(value.startswith(names) for value in found)
    return any(fnmatchcase(value, glob) for value in found for glob in globs)


def _change(action: Action, server: Server) -> str:
    """`higher`, `lower` or `same`; `unknown` where the present value was not measured."""
    now = str(action.arguments.get("expected") or "")
    now = now or (server.parameters or {}).get(str(action.arguments.get("parameter")), "")
    before, after = in_bytes(now), in_bytes(str(action.arguments.get("value")))
    if before is None or after is None:
        return "unknown"
    return "higher" if after > before else "lower" if after < before else "same"


def in_bytes(text: str) -> int | None:
    """`100mb` as the server reads it; None for what is no size."""
    found = _SIZE.fullmatch(text.strip().lower())
    if found is None or found[2] not in _UNITS:
        return None
    return int(found[1]) * _UNITS[found[2]]
