"""What a walk over all keys adds up, in bounded memory: the largest keys, prefixes, a sample."""

import heapq
import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from tools.connection import Command, CommandFailure
from tools.key_rows import GONE
from tools.keyspace import NO_STRINGS
from tools.prefixes import Prefixes
from tools.reading import Measured, printable
from tools.scanner import STOPPERS, Answer, Page

CANDIDATES = 200
"""The largest by bytes; the largest by elements are looked for among them."""
SAMPLE = 2_000
"""Keys whose type, TTL and idle time are read: three keyspace hits each."""
STRINGS = 500
"""Strings whose length is read."""
IDLE = ("OBJECT", "IDLETIME")
QUESTIONS = (("TYPE",), ("PTTL",))
"""The rest: three keyspace hits a key. Idle times first."""
ENOUGH = 10
"""Looked-up keys that tell a prefix's TTL share: rare prefixes get theirs too."""


@dataclass(frozen=True)
class Drawn:
    """A key of the random sample."""

    type: str
    bytes: int
    stays: bool | None
    """Never expires; None: could not be read."""


class Census:
    """Of one walk: `ask` for each page, then `take` it."""

    def __init__(
        self,
        expected: int,
        *,
        sizes_only: bool = False,
        sample: int = SAMPLE,
        keep: bool = False,
        idles: bool = True,
    ) -> None:
        """`expected`: keys that will come. `keep`: the size of each, too. `idles`: are kept."""
        self._questions = (IDLE, *QUESTIONS) if idles else QUESTIONS
        self.sizes: list[tuple[bytes, int]] | None = [] if keep else None
        self.keys = 0
        self.bytes = 0
        self.looked_up = 0
        self.lookups = 0
        self.unsized = 0
        self.failure: CommandFailure | None = None
        """Why keys could not be sized (the last one's reason)."""
        self.prefixes = Prefixes()
        self.ttl_failure: CommandFailure | None = None
        self.type_failure: CommandFailure | None = None
        self.sample: dict[bytes, Drawn] = {}
        """One key in `stride`: a random sample, since SCAN's order is random."""
        self._drawn: set[bytes] = set()
        self._few: list[tuple[bytes, int]] = []
        """Keys of prefixes of which few were looked at, with their bytes: asked with the next."""
        self._looks: deque[tuple[Sequence[bytes], list[tuple[bytes, int]]]] = deque()
        """Of each page that is under way: the keys of which more than the size is asked."""
        self._heap: list[tuple[int, bytes]] = []
        self._floor = -1
        self._stride = max(1, math.ceil(expected / sample))
        self._asked = 0
        self._sizes_only = sizes_only

    def ask(self, names: Sequence[bytes]) -> Sequence[Command]:
        """MEMORY USAGE of every key; the rest of one in `stride`, and of some of each prefix.

        The latter are asked with the next page: once more with no names, then, at the end.
        """
        sizes: list[Command] = [("MEMORY", "USAGE", name) for name in names]
        if self._sizes_only:
            return sizes
        drawn = names[self._stride - 1 - self._asked % self._stride :: self._stride]
        self._asked += len(names)
        self._drawn.update(drawn)
        few, self._few = self._few, []
        self._looks.append((drawn, few))
        looks = [*drawn, *(name for name, _ in few)]
        return sizes + [(*question, name) for name in looks for question in self._questions]

    def take(self, page: Page) -> CommandFailure | None:
        """Count a page. A failure that every further key would meet is returned."""
        names, answers = page
        of, floor = self.prefixes.of, self._floor
        seldom = not self._sizes_only and self.looked_up < 2 * SAMPLE
        for name, size in zip(names, answers, strict=False):
            if isinstance(size, int):
                tally = of(name)
                tally.keys += 1
                tally.bytes += size
                if seldom and tally.asked < ENOUGH and name not in self._drawn:
                    tally.asked += 1
                    self._few.append((name, size))
                if size > floor:
                    self._keep(name, size)
                    floor = self._floor
                self.keys += 1
                self.bytes += size
            elif isinstance(size, CommandFailure):
                self.failure = size
                self.unsized += 1
                if size.kind in STOPPERS:
                    return size
        if self.sizes is not None:
            self.sizes += [
                (name, size)
                for name, size in zip(names, answers, strict=False)
                if isinstance(size, int)
            ]
        if not self._sizes_only:
            self._look(names, answers)
        return None

    def _keep(self, key: bytes, size: int) -> None:
        heapq.heappush(self._heap, (size, key))
        if len(self._heap) > CANDIDATES:
            heapq.heappop(self._heap)
            self._floor = self._heap[0][0]

    def _look(self, names: Sequence[bytes], answers: Sequence[Answer]) -> None:
        drawn, few = self._looks.popleft()
        sizes = dict(zip(names, answers, strict=False)) if drawn else {}
        at, number = len(names), len(self._questions)
        for name, size in [*((name, sizes[name]) for name in drawn), *few]:
            if isinstance(size, int):
                idle = answers[at] if number > len(QUESTIONS) else None
                self._see(name, size, idle, *answers[at + number - len(QUESTIONS) : at + number])
            at += number

    def _see(self, key: bytes, size: int, idle: Answer, kind: Answer, ttl: Answer) -> None:
        self.lookups += len(self._questions)
        if kind == b"none" or ttl == GONE:
            return
        self.looked_up += 1
        tally = self.prefixes.of(key)
        if isinstance(idle, int):
            tally.idles.append(idle)
        if isinstance(kind, bytes):
            tally.types.add(printable(kind))
        elif isinstance(kind, CommandFailure):
            self.type_failure = kind
        if isinstance(ttl, int):
            tally.ttls.append(ttl / 1000 if ttl >= 0 else -1)
        elif isinstance(ttl, CommandFailure):
            self.ttl_failure = ttl
        if key in self._drawn:
            self.sample[key] = Drawn(
                printable(kind) if isinstance(kind, bytes) else "unknown",
                size,
                ttl < 0 if isinstance(ttl, int) else None,
            )

    def strings(self) -> list[bytes]:
        """Some strings of the sample."""
        return [key for key, drawn in self.sample.items() if drawn.type == "string"][:STRINGS]

    def mean_value_at_most(self) -> Measured[float]:
        """Mean MEMORY USAGE less key length of the sampled strings: their values hold no more."""
        strings = [(k, drawn) for k, drawn in self.sample.items() if drawn.type == "string"]
        if not strings:
            return NO_STRINGS
        return statistics.fmean(max(drawn.bytes - len(key), 0) for key, drawn in strings)

    def without_ttl_share(self) -> float | None:
        """Share of the random sample that never expires."""
        stays = [drawn.stays for drawn in self.sample.values() if drawn.stays is not None]
        return sum(stays) / len(stays) if stays else None

    def largest(self) -> list[tuple[bytes, int]]:
        """Keys with most bytes first. SCAN may have shown one twice; it is listed once."""
        largest = sorted(self._heap, key=lambda item: (-item[0], item[1]))
        return list({key: size for size, key in largest}.items())
