"""Less time between two samples of a server, in this process or in those that it forks."""

from collections.abc import Awaitable, Callable
from typing import Any

LONGEST_WAIT = "TESTS_LONGEST_WAIT"
"""In the environment of a forked process (tests/forked.py): seconds."""
Wait = Callable[[Any, float], Awaitable[None]]


def shortened(wait: Wait, longest: float) -> Wait:
    """A `LiveConnection.wait` that lets no more than these seconds pass."""

    async def wait_less(connection: Any, seconds: float) -> None:
        await wait(connection, min(seconds, longest))

    return wait_less
