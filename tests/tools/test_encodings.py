"""What another shape of data would save: told from a sample, and then carried out."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import redis

from evals.pouring import Word, pour
from evals.servers import Server
from tests.tools.looking import client_of, opened, read
from tools.encodings import AdviceRow, Encodings
from tools.reading import NotMeasured

OLD = ("redis-6.2", "redis-7.0")
"""No CLIENT NO-TOUCH."""


async def advised(server: Server, **how: Any) -> Encodings:
    async with opened(server.url) as connection:
        return await read(connection, "encodings", Encodings, lengths=True, **how)


def row(found: Encodings, prefix: str, starts: str) -> AdviceRow:
    rows = [each for each in found.advice if each.prefix == prefix and starts in each.change]
    assert len(rows) == 1, found.advice
    return rows[0]


def held(admin: "redis.Redis", pattern: str) -> int:
    """Bytes of the keys, each element counted."""
    keys = list(admin.scan_iter(pattern, count=1_000))
    assert keys
    pipe = admin.pipeline(transaction=False)
    for key in keys:
        pipe.memory_usage(key, samples=0)
    return sum(pipe.execute())


def limit(admin: "redis.Redis", kind: str) -> str:
    """The parameter by its name on this server."""
    found = map(str, admin.config_get(f"{kind}-max-*-entries"))
    return max(found, key=lambda name: "listpack" in name)  # since 7.0 it has two


def put_back(admin: "redis.Redis", *keys: str, idle: int = 0) -> None:
    """Written again as they are, without a TTL, unused for so many seconds."""
    port = admin.connection_pool.connection_kwargs["port"]
    with redis.Redis(port=port) as client:
        pipe = client.pipeline(transaction=False)
        for key in keys:
            pipe.dump(key)
        dumps = pipe.execute()
    assert all(isinstance(dump, bytes) for dump in dumps)
    restored = zip(keys, dumps, strict=True)
    refused = pour(
        port, (("RESTORE", key, 0, dump, "REPLACE", "IDLETIME", idle) for key, dump in restored)
    )
    assert refused == 0


def written_again(admin: "redis.Redis", pattern: str) -> None:
    put_back(admin, *map(str, admin.scan_iter(pattern, count=1_000)))


def hashes(
    prefix: str, number: int, fields: Iterable[int], value: str
) -> Iterator[tuple[Word, ...]]:
    sizes = list(fields)
    for place in range(number):
        many = range(sizes[place % len(sizes)])
        yield "HSET", f"{prefix}{place}", *(word for at in many for word in (f"f{at}", value))


async def test_small_strings_as_fields_of_hashes(server: Server) -> None:
    pour(server.port, (("SET", f"flag:{n}", f"on{n % 7}") for n in range(6_000)))
    pour(server.port, hashes("user:", 300, (40, 60), "v" * 3))
    admin = client_of(server)
    found = await advised(server)
    assert 2_000 <= found.keys_seen < 2_060
    assert found.keys_total == 6_300
    saving = row(found, "flag:", "fields of hashes")
    assert saving.type == "string"
    most, least = saving.most_after_bytes, saving.least_after_bytes
    assert isinstance(most, int)
    assert isinstance(least, int)
    assert isinstance(saving.saved_bytes, int)
    before = held(admin, "flag:*")
    used = int(admin.info("memory")["used_memory"])
    for bucket in range(120):
        names = [f"{n}" for n in range(bucket * 50, bucket * 50 + 50)]
        admin.hset(f"flags:{bucket}", mapping={name: f"on{int(name) % 7}" for name in names})
        admin.delete(*(f"flag:{name}" for name in names))
    after = held(admin, "flags:*")
    scale = 6_000 / saving.sampled
    assert least * scale <= after <= most * scale
    assert saving.now_bytes * scale == pytest.approx(before, rel=0.02)
    assert 0.7 * (before - after) < saving.saved_bytes <= 1.05 * (before - after)
    really = used - int(admin.info("memory")["used_memory"])
    assert 0.5 * really < saving.saved_bytes < 1.2 * really


async def test_without_a_compact_hash_nobody_knows_what_a_field_costs(server: Server) -> None:
    pour(server.port, (("SET", f"flag:{n}", "on") for n in range(500)))
    saving = row(await advised(server), "flag:", "fields of hashes")
    assert isinstance(saving.most_after_bytes, NotMeasured)
    assert isinstance(saving.least_after_bytes, NotMeasured)
    assert isinstance(saving.saved_bytes, NotMeasured)
    assert saving.now_bytes > 500 * 30


@pytest.mark.parametrize("kind", ["hash", "zset"])
async def test_tables_that_just_miss_the_limit(server: Server, kind: str) -> None:
    admin = client_of(server)
    name = limit(admin, kind)
    admin.config_set(name, 128)

    def write(key: str, many: int) -> tuple[Word, ...]:
        if kind == "hash":
            return "HSET", key, *(word for at in range(many) for word in (f"f{at}", "v" * 10))
        return "ZADD", key, *(word for at in range(many) for word in (at, f"m{at}"))

    pour(server.port, (write(f"cart:{n}", 90 + n % 130) for n in range(800)))
    found = await advised(server)
    saving = row(found, "cart:", f"raise {name} from 128 to 256")
    assert isinstance(saving.saved_bytes, int)
    assert isinstance(saving.most_after_bytes, int)
    assert "of the same prefix" in saving.sure
    before = held(admin, "cart:*")
    admin.config_set(name, 256)
    written_again(admin, "cart:*")
    actual = before - held(admin, "cart:*")
    assert actual > 0.3 * before
    assert 0.75 < saving.saved_bytes / actual < 1.33
    assert [each for each in (await advised(server)).advice if "raise" in each.change] == []


async def test_where_no_key_of_the_prefix_is_compact_others_tell_the_difference(
    server: Server,
) -> None:
    admin = client_of(server)
    name = limit(admin, "hash")
    admin.config_set(name, 64)
    pour(server.port, hashes("both:", 200, (50, 60, 70, 80), "v" * 30))
    pour(server.port, hashes("tables:", 200, (100, 110, 120), "v" * 5))
    saving = row(await advised(server), "tables:", f"raise {name} from 64 to 128")
    assert isinstance(saving.saved_bytes, int)
    assert "no key of this prefix" in saving.sure
    before = held(admin, "tables:*")
    admin.config_set(name, 128)
    written_again(admin, "tables:*")
    # Another prefix has other values: on allocators with large steps it tells half of it.
    assert 0.4 < saving.saved_bytes / (before - held(admin, "tables:*")) < 1.5


async def test_a_limit_that_nothing_shows_the_worth_of(server: Server) -> None:
    admin = client_of(server)
    name = limit(admin, "hash")
    admin.config_set(name, 10)
    pour(server.port, hashes("cart:", 100, (20, 30), "v" * 10))
    saving = row(await advised(server), "cart:", f"raise {name} from 10 to 32")
    assert isinstance(saving.saved_bytes, NotMeasured)
    assert "too few compact keys of type hash" in saving.saved_bytes.because


async def test_one_word_among_integers_makes_a_table_of_a_set(server: Server, build: str) -> None:
    admin = client_of(server)
    pour(server.port, (("SADD", f"ids:{n}", *range(n, n + 300)) for n in range(200)))
    for number in range(60):
        admin.sadd(f"ids:{number}", "none")
    saving = row(await advised(server), "ids:", "no integers")
    assert saving.sampled == 60
    assert isinstance(saving.saved_bytes, int)
    assert "not known: none was read" in saving.sure
    before = held(admin, "ids:*")
    for number in range(60):
        admin.srem(f"ids:{number}", "none")
    written_again(admin, "ids:*")
    assert 0.75 < saving.saved_bytes / (before - held(admin, "ids:*")) < 1.33


async def test_an_intset_limit_that_is_just_missed(server: Server) -> None:
    admin = client_of(server)
    admin.config_set("set-max-intset-entries", 256)
    pour(server.port, (("SADD", f"ids:{n}", *range(n, n + 150 + n % 200)) for n in range(400)))
    saving = row(await advised(server), "ids:", "raise set-max-intset-entries from 256 to 512")
    assert isinstance(saving.saved_bytes, int)
    before = held(admin, "ids:*")
    admin.config_set("set-max-intset-entries", 512)
    written_again(admin, "ids:*")
    assert 0.75 < saving.saved_bytes / (before - held(admin, "ids:*")) < 1.33


async def test_a_long_value_or_a_larger_past_cannot_be_told_apart(server: Server) -> None:
    pour(server.port, hashes("doc:", 200, (5, 9), "v" * 200))
    saving = row(await advised(server), "doc:", "shorten the longest elements")
    assert isinstance(saving.saved_bytes, NotMeasured)
    assert "only the elements tell" in saving.saved_bytes.because


async def test_keys_without_a_ttl_beside_others_with_one(server: Server) -> None:
    """Idle times as they were are put back with RESTORE."""
    admin = client_of(server)
    pour(server.port, (("SET", f"session:{n}", "x" * 300, "EX", 3_600) for n in range(300)))
    never = [f"session:{number}" for number in range(300, 420)]
    pour(server.port, (("SET", key, "x" * 300) for key in never))
    put_back(admin, *never[:100], idle=90_000)
    put_back(admin, *never[100:], idle=60)
    saving = row(await advised(server), "session:", "give them a TTL")
    assert saving.sampled == 120
    assert "100 of them were not used" in saving.sure
    before = held(admin, "session:*")
    for number in range(300, 400):
        admin.delete(f"session:{number}")
    actual = before - held(admin, "session:*")
    assert isinstance(saving.saved_bytes, int)
    assert saving.saved_bytes == pytest.approx(actual, rel=0.02)


async def test_long_values_may_be_compressed_and_nobody_knows_how_well(server: Server) -> None:
    pour(server.port, (("SET", f"page:{n}", b"x" * (2_000 + n)) for n in range(200)))
    pour(server.port, (("SET", f"map:{n}", b"\0" * 4_096) for n in range(200)))
    found = await advised(server)
    pages, maps = row(found, "page:", "compress"), row(found, "map:", "compress")
    assert isinstance(pages.saved_bytes, NotMeasured)
    assert isinstance(maps.saved_bytes, NotMeasured)
    assert "values are never read" in pages.saved_bytes.because
    assert "200 lengths" in pages.sure
    assert "all as long" in maps.sure


async def test_rows_tell_the_encodings_and_nothing_is_advised_where_all_is_well(
    server: Server, build: str
) -> None:
    pour(server.port, hashes("user:", 300, (5, 9), "v" * 3))
    pour(server.port, (("SET", f"page:{n}", b"x" * 500) for n in range(300)))
    found = await advised(server)
    assert found.advice == []
    by_prefix = {each.prefix: each for each in found.rows}
    compact = "ziplist" if build == "redis-6.2" else "listpack"
    assert (by_prefix["user:"].encoding, by_prefix["user:"].elements) == (compact, 300 * 7)
    assert (by_prefix["page:"].encoding, by_prefix["page:"].elements) == ("raw", 150_000)
    assert found.bytes_seen == sum(each.bytes for each in found.rows)


async def test_lengths_that_would_reset_idle_times_are_left_alone(
    server: Server, build: str
) -> None:
    admin = client_of(server)
    pour(server.port, (("SET", f"flag:{n}", "on") for n in range(200)))
    put_back(admin, *(f"flag:{number}" for number in range(200)), idle=500)
    async with opened(server.url) as connection:
        found = await read(connection, "encodings", Encodings)
        admin.config_set("maxmemory-policy", "allkeys-lru")
        under_lru = await read(connection, "encodings", Encodings, lengths=True)
    for reading in (found, under_lru):
        assert ("lengths of 200 keys were left alone" in reading.stopped_because) == (build in OLD)
    assert int(admin.object("idletime", "flag:7")) >= 500


async def test_frequencies_are_kept_and_idle_times_are_not(server: Server) -> None:
    admin = client_of(server)
    admin.config_set("maxmemory-policy", "allkeys-lfu")
    pour(server.port, (("SET", f"session:{n}", "x" * 300, "EX", 3_600) for n in range(100)))
    pour(server.port, (("SET", f"session:{n}", "x" * 300) for n in range(100, 130)))
    async with opened(server.url) as connection:
        found = await read(connection, "encodings", Encodings)
    saving = row(found, "session:", "give them a TTL")
    assert isinstance(saving.saved_bytes, NotMeasured)
    assert int(admin.info("stats")["total_error_replies"]) < 10, "none for each key"
