"""Type, TTL, length and idle time of every key, beside a census that asks them of a sample only.

Three to four keyspace hits a key. Lengths are asked a page later, when types are known; where a
length command would reset a key's idle time, that is read first.
"""

import bisect
import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from tools.connection import Command
from tools.key_rows import GONE, LENGTH_OF
from tools.scanner import Answer

EDGES = (60, 3_600, 86_400, 604_800, 2_592_000)
"""Seconds (a minute, hour, day, week, 30 days): upper ends of the bins; the last bin has none."""
NEVER = -1
"""The bin of keys that never expire."""
LONGEST = 100
FREQUENCIES = (0, 5, 10, 20, 50, 100, 200, 255)
"""Upper ends of the bins of OBJECT FREQ: a new key has 5, 1,000 uses make it 18, 100,000 142, and a
million 255 (redis.conf, lfu-log-factor 10)."""
HOTTEST = 10
_Unmeasured = tuple[bytes, bytes, int]
"""Type, name and bytes."""
_LENGTH_OF = {kind.encode(): command for kind, command in LENGTH_OF.items()}


@dataclass
class TypeCount:
    """All keys of one type."""

    keys: int = 0
    bytes: int = 0
    elements: int = 0


class EveryKey:
    """Of one walk: `ask` for each page, then `take` it; once more with no names at the end."""

    def __init__(self, *, lengths: bool, idles: bool) -> None:
        """`lengths` and `idles`: whether they may be, and have to be, asked for."""
        self.types: defaultdict[bytes, TypeCount] = defaultdict(TypeCount)
        self.ttls: Counter[int] = Counter()
        """Keys by bin."""
        self.idles: Counter[int] = Counter()
        self.frequencies: Counter[int] = Counter()
        """Keys by bin, where frequencies are kept instead of idle times."""
        self.hottest: list[tuple[int, bytes]] = []
        """Keys used most, a heap."""
        self.lookups = 0
        self.longest: list[tuple[int, bytes, int]] = []
        """Collections with most elements, and their bytes: a heap."""
        self.lengths = lengths
        self.reads_idles = idles
        self._next: list[_Unmeasured] = []
        """Those of the page before: their lengths are asked with the next."""
        self._asked: deque[list[_Unmeasured]] = deque()

    def ask(self, names: Sequence[bytes]) -> Sequence[Command]:
        """About these, and lengths of those of the page before."""
        before, self._next = self._next, []
        self._asked.append(before)
        # Before anything that would reset them.
        kept = "IDLETIME" if self.reads_idles else "FREQ"
        commands: list[Command] = [("OBJECT", kept, name) for name in names]
        commands += [("TYPE", name) for name in names]
        commands += [("PTTL", name) for name in names]
        commands += [(_LENGTH_OF[kind], name) for kind, name, _ in before]
        return commands

    def take(
        self, names: Sequence[bytes], sizes: Sequence[Answer], answers: Sequence[Answer]
    ) -> None:
        """Count a page. What failed is not counted."""
        number = len(names)
        before = self._asked.popleft()
        self.lookups += len(answers)
        uses, answers = answers[:number], answers[number:]
        kinds, ttls = answers[:number], answers[number : 2 * number]
        self._measure(before, answers[2 * number :])
        if self.reads_idles:
            self.idles.update(bisect.bisect(EDGES, idle) for idle in uses if isinstance(idle, int))
        else:
            self._rank(names, uses)
        self.ttls.update(
            bisect.bisect(EDGES, ttl / 1000) if ttl >= 0 else NEVER
            for ttl in ttls
            if isinstance(ttl, int) and ttl != GONE
        )
        types, following = self.types, self._next
        for name, size, kind in zip(names, sizes, kinds, strict=False):
            if isinstance(kind, bytes) and isinstance(size, int):
                count = types[kind]
                count.keys += 1
                count.bytes += size
                if self.lengths and kind in _LENGTH_OF:
                    following.append((kind, name, size))

    def _rank(self, names: Sequence[bytes], frequencies: Sequence[Answer]) -> None:
        hottest = self.hottest
        for name, frequency in zip(names, frequencies, strict=False):
            if not isinstance(frequency, int):
                continue
            self.frequencies[bisect.bisect_left(FREQUENCIES, frequency)] += 1
            if len(hottest) < HOTTEST:
                heapq.heappush(hottest, (frequency, name))
            elif frequency > hottest[0][0] and (frequency, name) not in hottest:
                heapq.heapreplace(hottest, (frequency, name))

    def _measure(self, asked: Sequence[_Unmeasured], lengths: Sequence[Answer]) -> None:
        types, longest = self.types, self.longest
        for (kind, name, size), length in zip(asked, lengths, strict=True):
            if not isinstance(length, int):
                continue
            types[kind].elements += length
            if kind == b"string":
                continue
            if len(longest) < LONGEST:
                heapq.heappush(longest, (length, name, size))
            elif length > longest[0][0]:
                heapq.heapreplace(longest, (length, name, size))
