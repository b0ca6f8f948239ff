"""How far a walk over the keyspace is, for whoever waits for it, and how they end it early.

Tools take a connection and arguments, nothing else; who watches them is a matter of the context
that they run in.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Of one walk."""

    seen: int
    """Keys visited."""
    expected: int
    """Keys that will be, if nothing ends it before."""
    seconds: float
    left_seconds: float | None
    """At the pace so far, and no more than the budget has left; None: too early to say."""

    @property
    def coverage(self) -> float:
        """What of the expected keys was seen, a fraction."""
        return min(self.seen / self.expected, 1.0) if self.expected else 1.0

    @property
    def left(self) -> str:
        """For people: `about 2 min left`."""
        if self.left_seconds is None:
            return ""
        if self.left_seconds < 90:
            return f"about {self.left_seconds:.0f} s left"
        return f"about {self.left_seconds / 60:.0f} min left"


@dataclass
class Watch:
    """Somebody who is told, and may end it."""

    tell: Callable[[Progress], None]
    is_over: bool = False
    """Walks end after their present page, with what they have seen."""


_watch: ContextVar[Watch | None] = ContextVar("watch_of_walks", default=None)


@contextlib.contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Walks begun within, also in tasks that are begun within, tell this one."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


def watch_of_walks() -> Watch | None:
    """Whoever watches here."""
    return _watch.get()
