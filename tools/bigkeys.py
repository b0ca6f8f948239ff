"""`bigkeys`: which keys and prefixes hold the bytes. Every key's MEMORY USAGE; the rest sampled."""

import asyncio
import statistics
from collections import Counter

from tools.census import Census
from tools.connection import CommandFailure, Connection, read_info
from tools.every_key import EveryKey
from tools.key_rows import Look, look_closer, mean_length, unlooked
from tools.keysizes import not_met, size_bins
from tools.keyspace import (
    BigKeys,
    PrefixRow,
    SampledShares,
    TypeRow,
    without_ttl_share,
)
from tools.prefixes import Tally
from tools.reading import Measured, NotMeasured, printable
from tools.scanner import leaves_idle_time
from tools.shares import every_key_counts, sampled_shares
from tools.survey import (
    Survey,
    SurveyArguments,
    ended,
    is_cluster,
    keeps_idle_times,
    prepared,
    refused_resume,
)

TOP = 100
PREFIXES = 100


class BigKeysArguments(SurveyArguments):
    """Budget of the walk, and how it is done."""


async def bigkeys(connection: Connection, args: BigKeysArguments) -> BigKeys | NotMeasured:
    """Largest keys (bytes, elements, TTL and idle seconds), bytes by prefix and by type.

    All keys of the selected database within the budget, or a random sample of them. Bytes are
    MEMORY USAGE estimates; type, TTL and idle time are read of the largest keys and of a sample.
    Source: SCAN or RANDOMKEY, MEMORY USAGE, TYPE, PTTL, OBJECT IDLETIME, OBJECT ENCODING, HLEN and
    its like.
    """
    info = await read_info(connection, "memory", "keyspace", "server", "replication")
    if (refused := await refused_resume(connection, args, info)) is not None:
        return refused
    total = await _dbsize(connection)
    survey = await prepared(connection, args, info, total)
    await survey.run(connection)
    walk, census = survey.walk, survey.census
    if census.failure is not None and not census.keys:
        return census.failure.as_not_measured()
    strings = census.strings()
    mean_value: Measured[float]
    try:
        may_touch = await leaves_idle_time(connection)
        idles = keeps_idle_times(info)
        closer = await look_closer(connection, survey.largest(), may_touch, idles=idles)
        mean_value = await mean_length(connection, strings, may_touch)
        census.lookups += closer.lookups + (len(strings) if may_touch else 0)
        looks = closer.looks
        survey.fill_in(looks)
    except CommandFailure as failure:  # what the walk saw is kept
        looks = unlooked(census.largest(), failure)
        mean_value = failure.as_not_measured()
        walk.stopped_because += f"; the largest keys were not looked at: {failure}"
    resume = await ended(connection, survey, info)
    found = census.prefixes.found(PREFIXES)
    shares: Measured[SampledShares] | None = None
    if survey.is_sample:
        shares = await asyncio.to_thread(sampled_shares, census, found, total, _dataset(info))
    if isinstance(shares, SampledShares):
        bins = await size_bins(connection)
        if isinstance(bins, list):
            bins = not_met(bins, [look.row(total) for look in looks])
        shares = shares.model_copy(update={"not_met": bins})
    reading = _reading(survey, looks, total, mean_value, info, found)
    return reading.model_copy(update={"sampled": shares, "resume": resume})


def _reading(
    survey: Survey,
    looks: list[Look],
    total: Measured[int],
    mean_value: Measured[float],
    info: dict[str, str],
    found: dict[bytes, Tally],
) -> BigKeys:
    census, walk = survey.census, survey.walk
    dataset = _dataset(info)
    rows = [look.row(dataset) for look in looks]
    counted = [(row.elements, row) for row in rows if isinstance(row.elements, int)]
    counted = [(elements, row) for elements, row in counted if row.type != "string"]
    counted.sort(key=lambda item: -item[0])
    return BigKeys(
        keys_total=total,
        keys_seen=census.keys,
        coverage=_coverage(census.keys, total),
        complete=walk.complete and census.unsized == 0,
        stopped_because=_words(survey, total, info),
        seconds=round(walk.seconds, 3),
        bytes_seen=census.bytes,
        dataset_bytes=dataset,
        mean_value_bytes=mean_value,
        mean_value_bytes_at_most=census.mean_value_at_most(),
        mean_key_bytes=(
            census.bytes / census.keys
            if census.keys
            else NotMeasured(not_measured="MEMORY USAGE", because="the database holds no keys")
        ),
        without_ttl_share=census.without_ttl_share(),
        top_by_bytes=rows[:TOP],
        top_by_elements=[row for _, row in counted[:TOP]],
        prefixes=[_prefix_row(prefix, tally, census) for prefix, tally in found.items()],
        types=_types(census, looks) if survey.every is None else _all_types(survey.every, census),
        looked_up=census.looked_up,
        lookups=census.lookups + (survey.every.lookups if survey.every else 0),
        pace=walk.pace,
        server_seconds=round(walk.server_seconds, 3),
        every_key=every_key_counts(survey.every) if survey.every else None,
    )


def _coverage(keys: int, total: Measured[int]) -> Measured[float]:
    if isinstance(total, NotMeasured):
        return total
    return min(keys / total, 1.0) if total else 1.0


def _words(survey: Survey, total: Measured[int], info: dict[str, str]) -> str:
    """Why the walk ended, and what its numbers do not cover."""
    census, walk = survey.census, survey.walk
    words = [walk.stopped_because, *walk.remarks]
    if census.unsized:
        words.append(f"{census.unsized} keys could not be sized: {census.failure}")
    if census.type_failure is not None:
        words.append(f"types could not be read: {census.type_failure}")
    if census.ttl_failure is not None:
        words.append(f"TTLs could not be read: {census.ttl_failure}")
    others = sum(name.startswith("db") and name[2:].isdecimal() for name in info)
    others -= total != 0  # INFO keyspace lists no empty database
    if others > 0:
        words.append(f"{others} other databases hold keys and were not walked")
    if not walk.complete and not survey.is_sample and is_cluster(info):
        words.append("in cluster mode SCAN goes slot by slot: what was seen is no random sample")
    return "; ".join(words)


async def _dbsize(connection: Connection) -> Measured[int]:
    try:
        reply = await connection.execute("DBSIZE")
    except CommandFailure as failure:
        return failure.as_not_measured()
    if isinstance(reply, int):
        return reply
    return NotMeasured(not_measured="DBSIZE", because="the reply is not a number", failure="error")


def _dataset(info: dict[str, str]) -> Measured[int]:
    value = info.get("used_memory_dataset", "")
    if value.isdecimal():
        return int(value)
    return NotMeasured(
        not_measured="INFO memory used_memory_dataset",
        because="this server does not report used_memory_dataset",
    )


def _all_types(every: EveryKey, census: Census) -> list[TypeRow]:
    """As counted."""
    counts = sorted(every.types.items(), key=lambda item: -item[1].bytes)
    return [
        TypeRow(
            type=printable(kind),
            keys=count.keys,
            bytes=count.bytes,
            share_of_bytes=count.bytes / census.bytes if census.bytes else 0.0,
        )
        for kind, count in counts
    ]


def _types(census: Census, looks: list[Look]) -> list[TypeRow]:
    """Bytes and keys by type: the largest keys one by one, the others scaled up from the sample."""
    keys: Counter[str] = Counter()
    size_of: Counter[str] = Counter()
    largest = dict(census.largest())
    for look in looks:
        kind = look.type if isinstance(look.type, str) else "unknown"
        keys[kind] += 1
        size_of[kind] += largest[look.key]
    body_keys = max(census.keys - keys.total(), 0)
    body_bytes = max(census.bytes - size_of.total(), 0)
    body = [drawn for key, drawn in census.sample.items() if key not in largest]
    drawn_bytes = sum(drawn.bytes for drawn in body) or 1
    for kind in sorted({drawn.type for drawn in body}):
        sizes = [drawn.bytes for drawn in body if drawn.type == kind]
        keys[kind] += round(body_keys * len(sizes) / len(body))
        size_of[kind] += round(body_bytes * sum(sizes) / drawn_bytes)
    return [
        TypeRow(
            type=kind,
            keys=keys[kind],
            bytes=size,
            share_of_bytes=size / census.bytes if census.bytes else 0.0,
        )
        for kind, size in size_of.most_common()
    ]


def _prefix_row(prefix: bytes, tally: Tally, census: Census) -> PrefixRow:
    idle: Measured[float] = NotMeasured(
        not_measured="OBJECT IDLETIME", because="no key of this prefix told its idle time"
    )
    return PrefixRow(
        prefix=printable(prefix),
        keys=tally.keys,
        bytes=tally.bytes,
        share_of_bytes=tally.bytes / census.bytes if census.bytes else 0.0,
        mean_bytes=tally.bytes / tally.keys,
        types=sorted(tally.types),
        without_ttl_share=without_ttl_share(tally, census.ttl_failure),
        median_idle_seconds=statistics.median(tally.idles) if tally.idles else idle,
    )
