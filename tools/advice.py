"""What other shapes of data would save, told from keys that are kept that way already. Pure.

No number here is a guess: what an element costs in the compact encoding is what it costs in keys of
this server that have it. Where there are none, there is no number.
"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from tools.costs import FEW, TABLES, Costs, Key
from tools.prefixes import OTHER
from tools.reading import Measured, NotMeasured

WORTH = 0.01
"""Of the sampled bytes: what holds less is no matter."""
SMALL = 64
"""Bytes of a value: hash-max-listpack-value by default, redis.conf."""
LEAST_ENTRY = 2
"""Bytes: each entry of a listpack has a head and a tail of at least one (its specification,
github.com/antirez/listpack)."""
MOST_ENTRIES = 1_024
"""Higher limits of the compact encodings cost time: each access walks through the entries."""
EXPIRING = 0.5
"""Of a prefix's keys have a TTL: then its keys are meant to expire."""
LONG = 1_024
"""Bytes: shorter values hardly compress, and cost more time than memory."""
INTSET = "set-max-intset-entries"
_ENTRIES: dict[str, tuple[str, int]] = {
    "hash": ("hash-max-listpack-entries", 128),
    "zset": ("zset-max-listpack-entries", 128),
    "set": ("set-max-listpack-entries", 128),
    "list": ("list-max-listpack-size", 128),
}
"""Type -> the limit of its compact encoding, and its default (redis.conf)."""


@dataclass(frozen=True)
class Limits:
    """Limits of the compact encodings as the server prints them, by parameter."""

    values: dict[str, int] = field(default_factory=dict)

    def of(self, parameter: str) -> tuple[str, int] | None:
        """The parameter by this server's name (ziplists before 7.0), and its value."""
        names = (parameter, parameter.replace("listpack", "ziplist"))
        return next(((name, self.values[name]) for name in names if name in self.values), None)


@dataclass(frozen=True)
class Saving:
    """One change. Bytes are those of the sampled keys."""

    change: str
    prefix: bytes
    type: str
    sampled: int
    now: int
    most_after: Measured[int]
    least_after: Measured[int]
    sure: str
    scale: float = 1.0

    @property
    def saved(self) -> Measured[int]:
        """Bytes, over all keys of the database, at least."""
        if isinstance(self.most_after, NotMeasured):
            return self.most_after
        return round((self.now - self.most_after) * self.scale)


def advised(keys: Sequence[Key], limits: Limits, scale: float) -> list[Saving]:
    """What to change, most saved first. `scale`: keys of the database for each sampled one."""
    floor = WORTH * sum(key.size for key in keys)
    by_prefix: defaultdict[bytes, list[Key]] = defaultdict(list)
    for key in keys:
        by_prefix[key.prefix].append(key)
    costs = Costs(keys)
    found = [
        replace(saving, scale=scale)
        for group in by_prefix.values()
        for judge in _JUDGES
        for saving in judge(group, limits, costs)
        if saving.now >= floor
    ]
    return sorted((one for one in found if _is_worth(one, floor * scale)), key=_order)


def _is_worth(saving: Saving, floor: float) -> bool:
    saved = saving.saved
    return isinstance(saved, NotMeasured) or saved >= floor / 2


def _order(saving: Saving) -> tuple[float, int, bytes]:
    saved = saving.saved
    return (-saved if isinstance(saved, int) else 0.0, -saving.now, saving.prefix)


def _small_strings(group: Sequence[Key], limits: Limits, costs: Costs) -> list[Saving]:
    """Many small strings that never expire: a string costs its own overhead, a field hardly any."""
    longest = (limits.of("hash-max-listpack-value") or ("", SMALL))[1]
    entries = (limits.of("hash-max-listpack-entries") or ("", 0))[1]
    prefix = group[0].prefix
    small = [
        key for key in group
        if key.type == "string" and key.stays and key.length is not None and key.length <= longest
    ]  # fmt: skip
    if len(small) < FEW or prefix == OTHER:
        return []
    most: Measured[int]
    least: Measured[int]
    most = least = NotMeasured(
        not_measured="bytes of a field",
        because="too few compact hashes of several fields were sampled to tell what one costs here",
    )
    sure = "that fields cost less than keys is certain, not by how much"
    if (each := costs.field()) is not None:
        names = [len(key.name) - len(prefix) for key in small]
        content = sum(names) + sum(key.length or 0 for key in small)
        most = content + math.ceil(len(small) * each.bytes)
        least = sum(_least_field(key, key.name[len(prefix) :]) for key in small)
        sure = (
            f"names and values as long as sampled; a field costs no more than in the {each.keys} "
            f"compact hashes sampled here, of {each.elements:.0f} fields each on average"
        )
    size = f" of at most {entries} fields" if entries else ""
    change = f"keep small values as fields of hashes{size}; the application has to be changed"
    return [Saving(change, prefix, "string", len(small), _bytes(small), most, least, sure)]


def _least_field(key: Key, name: bytes) -> int:
    """Bytes of its two entries; a number takes hardly more than the head."""
    value = 0 if key.encoding == "int" else key.length or 0
    return 2 * LEAST_ENTRY + value + (0 if name.isdigit() else len(name))


def _over_the_limit(group: Sequence[Key], limits: Limits, costs: Costs) -> list[Saving]:
    """Tables that have few more entries than the limit of the compact encoding."""
    found = []
    for kind, (parameter, default) in _ENTRIES.items():
        tables = [key for key in _tables(group, kind) if key.length]
        if kind == "set" and costs.has_intsets(group[0].prefix):
            parameter, default = INTSET, 512
        limit = limits.of(parameter)
        if limit is None or not tables:
            continue
        name, value = limit
        most = min(max(2 * value, default), MOST_ENTRIES) if value > 0 else value
        over = [key for key in tables if _is_between(key, value, most)]
        if len(over) >= FEW:
            found.append(_raised(over, name, value, costs))
        found += _within(tables, name, value)
    return found


def _is_between(key: Key, value: int, most: int) -> bool:
    if value > 0:
        return value < (key.length or 0) <= most
    limit = 2_048 << -value  # list-max-listpack-size -1 … -5: 4 … 64 KiB, redis.conf
    return limit < key.size <= 2 * limit


def _raised(over: Sequence[Key], name: str, value: int, costs: Costs) -> Saving:
    longest = max(key.length or 0 for key in over)
    wanted = 1 << (longest - 1).bit_length() if value > 0 else value - 1
    most, least, sure = costs.compact(over)
    return Saving(
        f"raise {name} from {value} to {wanted}, then write these keys again",
        over[0].prefix, over[0].type, len(over), _bytes(over), most, least, sure,
    )  # fmt: skip


def _within(tables: Sequence[Key], name: str, value: int) -> list[Saving]:
    """Tables with no more entries than the limit, for a reason that lengths do not tell."""
    within = [key for key in tables if 0 < (key.length or 0) <= value]
    if len(within) < FEW or name == INTSET:  # what is no integer is told elsewhere
        return []
    limit = name.replace("-entries", "-value")
    unknown = NotMeasured(
        not_measured="lengths of elements",
        because=f"an element longer than {limit} makes a table, and so does having been larger "
        "once: which of them it was, and what would be left, only the elements tell",
    )
    change = "shorten the longest elements, or write these keys again if they were larger once"
    first = within[0]
    return [
        Saving(
            change, first.prefix, first.type, len(within), _bytes(within), unknown, unknown,
            "a table although it has few enough elements",
        )
    ]  # fmt: skip


def _mixed_sets(group: Sequence[Key], limits: Limits, costs: Costs) -> list[Saving]:
    """Sets that are tables, beside others of the prefix that hold nothing but integers."""
    limit = limits.of(INTSET)
    if limit is None or not costs.has_intsets(group[0].prefix):
        return []
    mixed = [
        key for key in group
        if key.type == "set" and key.encoding in TABLES and 0 < (key.length or 0) <= limit[1]
    ]  # fmt: skip
    if len(mixed) < FEW:
        return []
    most, least, sure = costs.compact(mixed)
    change = "keep the members that are no integers elsewhere, then write these sets again"
    sure += "; that few members are no integers is likely, not known: none was read"
    prefix = mixed[0].prefix
    return [Saving(change, prefix, "set", len(mixed), _bytes(mixed), most, least, sure)]


def _without_ttl(group: Sequence[Key], limits: Limits, costs: Costs) -> list[Saving]:
    """Keys without a TTL beside those of the same prefix that have one."""
    left = [key.ttl for key in group if key.ttl is not None]
    stays = [key for key in group if key.stays]
    if len(stays) < FEW or len(left) < max(FEW, EXPIRING * len(group)):
        return []
    longest = max(left)
    change = f"give them a TTL as the others have, at most {longest:,.0f} s"
    after: Measured[int]
    if any(key.idle is None for key in stays):
        after = NotMeasured(not_measured="OBJECT IDLETIME", because="idle times are not known")
        sure = "which of them are still in use is not known"
    else:
        unused = [key for key in stays if (key.idle or 0) > longest]
        after = _bytes(stays) - _bytes(unused)
        sure = (
            f"{len(unused)} of them were not used for longer than any of the {len(left)} others "
            "still has to live: with a TTL since their last use they would be gone"
        )
    kinds = Counter(key.type for key in stays)
    return [
        Saving(
            change, stays[0].prefix, kinds.most_common(1)[0][0], len(stays), _bytes(stays), after,
            after, sure,
        )
    ]  # fmt: skip


def _long_values(group: Sequence[Key], limits: Limits, costs: Costs) -> list[Saving]:
    """Strings that are long enough to be compressed by whoever writes them."""
    long = [key for key in group if key.type == "string" and (key.length or 0) >= LONG]
    if len(long) < FEW:
        return []
    lengths = Counter(key.length for key in long)
    shares = [number / len(long) for number in lengths.values()]
    entropy = -sum(share * math.log2(share) for share in shares)
    unknown = NotMeasured(
        not_measured="how well the values compress",
        because="lengths do not tell, and values are never read: compress some in the application",
    )
    varies = (
        "all as long: it may be a fixed form, which compresses well if it is padded"
        if len(lengths) == 1
        else f"{len(lengths)} lengths, {entropy:.1f} bits of entropy of {math.log2(len(long)):.1f} "
        "at most: text and JSON vary like that, but so does what is compressed already"
    )
    mean = statistics.fmean(key.length or 0 for key in long)
    return [
        Saving(
            "compress them before they are written", long[0].prefix, "string", len(long),
            _bytes(long), unknown, unknown, f"{mean:,.0f} bytes long on average, {varies}",
        )
    ]  # fmt: skip


def _tables(group: Sequence[Key], kind: str) -> list[Key]:
    return [key for key in group if key.type == kind and key.encoding in TABLES]


def _bytes(keys: Sequence[Key]) -> int:
    return sum(key.size for key in keys)


_Judge = Callable[[Sequence[Key], Limits, Costs], list[Saving]]
_JUDGES: tuple[_Judge, ...] = (
    _small_strings, _over_the_limit, _mixed_sets, _without_ttl, _long_values,
)  # fmt: skip
