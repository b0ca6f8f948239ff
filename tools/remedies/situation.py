"""A change of one parameter as its rule judges it, and how values are spelt."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from tools.remedies.remedy import Check
from tools.remedies.vitals import MIB, ClientLine, Vitals

SYSTEM_RESERVE = 0.10
"""Of the machine, left to everything else."""
SMALLEST_BUFFER = MIB
"""Of an output buffer's limits: what ordinary replies and bursts of them take."""
CLASSES = ("normal", "replica", "pubsub")


@dataclass(frozen=True)
class Situation:
    """What a rule judges: the wanted change and the server as it is now."""

    parameter: str
    old: str
    """In canonical form; empty if this build lacks the parameter."""
    new: str
    vitals: Vitals
    clients: list[ClientLine] = field(default_factory=list)
    owner_confirmed_cache: bool = False
    owner_accepts_loss: bool = False
    memory_limit: int | None = None
    culprit: str = ""

    @property
    def change(self) -> int:
        """New minus old, for numbers."""
        return int(self.new) - int(self.old or 0)

    @property
    def ceiling(self) -> tuple[int, str] | None:
        """Bytes this server may use at most, and who says so."""
        if self.memory_limit:
            return self.memory_limit, "the configured memory limit"
        if self.vitals.fields.get("process_id") == "1":
            return None  # in a container, host memory says nothing about what it may use
        host = self.vitals.count("total_system_memory")
        return (int(host * (1 - SYSTEM_RESERVE)), "90 % of host memory") if host else None


@dataclass(frozen=True)
class Rule:
    """One parameter: how its value is spelt, what must hold, what the change does."""

    canonical: Callable[[str], str]
    """The value as compared and sent. Raises ValueError."""
    effect: Callable[[Situation], str]
    checks: Callable[[Situation], list[Check]] = lambda _: []
    needs_clients: bool = False
    may_cause_evictions: bool = False


_UNITS = {"": 1, "b": 1, "k": 1000, "kb": 1024, "m": 10**6, "mb": MIB, "g": 10**9, "gb": 1024 * MIB}


def in_bytes(text: str) -> str:
    """`100mb` as Redis reads it, in digits. Raises ValueError."""
    found = re.fullmatch(r"(\d{1,18})([a-z]{0,2})", text.strip().lower())
    if found is None or found[2] not in _UNITS:
        raise ValueError("not a size in bytes, kb, mb or gb")
    return str(int(found[1]) * _UNITS[found[2]])


def between(low: int, high: int, *, size: bool = False) -> Callable[[str], str]:
    """A whole number (or size) within bounds."""

    def canonical(text: str) -> str:
        value = int(in_bytes(text) if size else text)
        if not low <= value <= high:
            raise ValueError(f"{value} is outside {low}..{high}")
        return str(value)

    return canonical


def one_of(*choices: str) -> Callable[[str], str]:
    """A word from a list."""

    def canonical(text: str) -> str:
        if (word := text.strip().lower()) not in choices:
            raise ValueError(f"not one of {', '.join(choices)}")
        return word

    return canonical


def buffer_limit(text: str) -> str:
    """`pubsub 32mb 8mb 60`: one class, hard and soft limit, soft seconds. Raises ValueError."""
    match text.lower().split():
        case [name, hard, soft, seconds] if name.replace("slave", "replica") in CLASSES:
            kind = name.replace("slave", "replica")
            sizes = [in_bytes(hard), in_bytes(soft)]
            if any(0 < int(size) < SMALLEST_BUFFER for size in sizes):
                raise ValueError(f"not below {SMALLEST_BUFFER} bytes, or ordinary replies end it")
            return f"{kind} {' '.join(sizes)} {between(0, 86_400)(seconds)}"
    raise ValueError("not `<normal|replica|pubsub> <hard> <soft> <seconds>`")


def share_or_size(text: str) -> str:
    """`5%` (1 to 50), or a size from 16 MiB. Raises ValueError."""
    if text.strip().endswith("%"):
        return between(1, 50)(text.strip()[:-1]) + "%"
    return between(16 * MIB, 2**40, size=True)(text)


def current_value(parameter: str, raw: str, wanted: str) -> str:
    """What the server holds, in the form it is compared in: of the buffer limits, one class."""
    if parameter != "client-output-buffer-limit":
        return raw
    words = raw.replace("slave", "replica").split()
    kind = wanted.split()[0]
    index = words.index(kind) if kind in words else -1
    return " ".join(words[index : index + 4]) if index >= 0 else ""
