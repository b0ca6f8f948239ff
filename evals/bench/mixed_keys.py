"""A keyspace as services leave it behind, the same each time: prefixes of very different weight,
all types, sizes with heavy tails, and a few collections that hold a third of the bytes.
"""  # noqa: D205

import random
from collections.abc import Iterator

PREFIXES = 20
EXPIRES = 0.18
"""Of the keys."""
BIG_EACH = 25_000
"""One big hash for so many keys."""
Word = str | bytes | int


def mixed_keys(number: int, seed: int = 7) -> Iterator[tuple[Word, ...]]:
    """Commands that write them."""
    draw = random.Random(seed)  # noqa: S311 - the same keyspace each time
    names = [f"app{place}:" for place in range(PREFIXES)]
    weights = [1 / (place + 1) ** 0.8 for place in range(PREFIXES)]
    for place in range(number):
        key = f"{draw.choices(names, weights)[0]}{place:x}"
        yield _write(draw, key)
        if draw.random() < EXPIRES:
            yield "EXPIRE", key, draw.randint(3_600, 864_000)
    for place in range(max(1, number // BIG_EACH)):
        fields = draw.randint(10_000, 200_000)
        for first in range(0, fields, 1_000):
            pairs = ((f"field{at}", "v" * 20) for at in range(first, first + 1_000))
            yield "HSET", f"big:{place}", *(word for pair in pairs for word in pair)


def _write(draw: random.Random, key: str) -> tuple[Word, ...]:
    kind = draw.random()
    if kind < 0.6:
        return "SET", key, b"x" * min(int(20 * draw.paretovariate(1.2)), 200_000)
    many = range(1 + min(int(draw.lognormvariate(1.5, 1)), 200))
    if kind < 0.8:
        return "HSET", key, *(word for at in many for word in (f"f{at}", "v" * 20))
    if kind < 0.87:
        return "RPUSH", key, *("e" * 20 for _ in many)
    if kind < 0.94:
        return "SADD", key, *(f"m{at}" for at in many)
    if kind < 0.99:
        return "ZADD", key, *(word for at in many for word in (at, f"m{at}"))
    return "XADD", key, "*", "f", "v" * 30
