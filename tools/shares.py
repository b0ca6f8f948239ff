"""The readings of a random sample, and of what was asked of every key."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tools.census import Census
from tools.every_key import EDGES, FREQUENCIES, NEVER, EveryKey
from tools.key_rows import NO_IDLE_TIMES
from tools.keyspace import (
    Bin,
    EveryKeyCounts,
    FrequencyBin,
    HotKey,
    PrefixShare,
    SampledShares,
    TypeElements,
    TypeShare,
)
from tools.prefixes import OTHER, Tally
from tools.reading import Measured, NotMeasured, printable
from tools.sampling import Estimate, estimated

SHARES = 50
"""Groups that are listed."""


def sampled_shares(
    census: Census, found: dict[bytes, Tally], keys: Measured[int], dataset: Measured[int]
) -> Measured[SampledShares]:
    """Shares of all keys by prefix and by type, from a census that drew each of its keys.

    It takes some tenths of a second: not for the event loop.
    """
    if isinstance(keys, NotMeasured):
        return keys
    if isinstance(dataset, NotMeasured):
        return dataset
    names = {id(tally): printable(prefix) for prefix, tally in found.items()}
    of, sizes = census.prefixes.of, census.sizes or []

    def known(threshold: int) -> int:
        return sum(size for _, size in sizes if size > threshold)

    other = printable(OTHER)
    by_prefix = [(names.get(id(of(key)), other), size) for key, size in sizes]
    by_type = [(one.type, one.bytes) for one in census.sample.values()]
    prefixes = estimated(by_prefix, keys, dataset, known)
    types = estimated(by_type, keys, dataset, known)
    if prefixes is None or types is None:
        return NotMeasured(
            not_measured="shares of a sample",
            because=f"{len(sizes)} keys are too few to tell the shares of {keys}",
            failure="budget",
        )
    return SampledShares(
        keys=len(sizes),
        threshold_bytes=prefixes.threshold,
        body_bytes=prefixes.body.value,
        least_body_bytes=prefixes.body.low,
        most_body_bytes=prefixes.body.high,
        known_bytes=prefixes.known,
        unseen_bytes=prefixes.unseen,
        hides_large_keys=prefixes.hides_large_keys,
        prefixes=[PrefixShare(prefix=name, **bounds) for name, bounds in _rows(prefixes)],
        types_threshold_bytes=types.threshold,
        types=[TypeShare(type=name, **bounds) for name, bounds in _rows(types)],
    )


def _rows(estimate: Estimate) -> list[tuple[str, dict[str, float]]]:
    return [
        (group, {"share": share.value, "least_share": share.low, "most_share": share.high})
        for group, share in list(estimate.shares.items())[:SHARES]
    ]


def every_key_counts(every: EveryKey) -> EveryKeyCounts:
    """Types, TTLs and idle times of all keys that were seen."""
    left_alone = NotMeasured(
        not_measured="lengths", because="they would reset idle times, by which this server evicts"
    )
    return EveryKeyCounts(
        types=[
            TypeElements(
                type=printable(kind),
                keys=count.keys,
                bytes=count.bytes,
                elements=count.elements if every.lengths else left_alone,
            )
            for kind, count in sorted(every.types.items(), key=lambda item: -item[1].bytes)
        ],
        ttl=_bins(every.ttls),
        idle=_bins(every.idles) if every.reads_idles else NO_IDLE_TIMES,
        **({} if every.reads_idles else _frequencies(every)),
    )


def _frequencies(every: EveryKey) -> dict[str, Any]:
    counted = every.frequencies
    return {
        "frequency": [
            FrequencyBin(frequency=end, keys=counted[place])
            for place, end in enumerate(FREQUENCIES)
        ],
        "hottest": [
            HotKey(key=printable(name), frequency=frequency)
            for frequency, name in sorted(every.hottest, reverse=True)
        ],
    }


def _bins(counted: Counter[int]) -> list[Bin]:
    ends: Sequence[float | None] = (*EDGES, None)
    bins = [Bin(below_seconds=end, keys=counted[place]) for place, end in enumerate(ends)]
    if counted[NEVER]:
        bins.append(Bin(below_seconds=None, keys=counted[NEVER], never=True))
    return bins
