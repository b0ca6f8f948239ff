"""How a remedy of many batches stays gentle and can be stopped: one way for all of them."""

import time
from collections.abc import Sequence
from typing import Any

from tools.connection import Command, CommandFailure, Connection
from tools.remedies.operation import Operation
from tools.remedies.vitals import round_trip_seconds

SLOW_FACTOR = 10
SLOW_SECONDS = 0.05
"""Between batches, a round trip slower than both is a target in distress: wait, then stop."""
PAUSE_SHARE = 0.25
"""Of a batch's time, left to everybody else before the next."""
BACK_OFFS = 5
BACK_OFF_SECONDS = 0.2
LONGEST_SECONDS = 600.0
OWN_PAGES = frozenset({"microseconds_per_call"})
"""What a remedy disturbs whose own pages of a thousand are slower than others' calls of that name.
Whether those became slower, too, the round trips tell."""


class Pace:
    """Between two batches: keep how far it is, look at the target's latency, pause."""

    def __init__(self, connection: Connection, usual_seconds: float, operation: Operation) -> None:
        self._connection = connection
        self._usual = usual_seconds
        """A round trip before the first write."""
        self._operation = operation
        self._started = self._batch_started = time.monotonic()

    async def next(self, done: dict[str, Any]) -> str:
        """After each batch. A text: stop here, for this reason. Raises CommandFailure."""
        now = time.monotonic()
        # Most of a batch is our own work and the way; the pause keeps it so on a fast link.
        await self._connection.wait(PAUSE_SHARE * (now - self._batch_started))
        if stop := await self._operation.note(done):
            return stop
        if now - self._started > LONGEST_SECONDS:
            return f"{LONGEST_SECONDS:.0f} s were up"
        if not await self._at_ease():
            return "the target answered too slowly between batches"
        self._batch_started = time.monotonic()
        return ""

    async def _at_ease(self) -> bool:
        for _ in range(BACK_OFFS):
            seconds = await round_trip_seconds(self._connection, 1)
            if seconds <= max(SLOW_SECONDS, SLOW_FACTOR * self._usual):
                return True
            await self._connection.wait(BACK_OFF_SECONDS)
        return False


async def ones(
    connection: Connection, commands: Sequence[Command]
) -> tuple[int, CommandFailure | None]:
    """Of one batch: how many commands changed something (replied 1), and the first refusal.

    Raises CommandFailure where the link is lost: nobody knows how many then.
    """
    replies = await connection.execute_many(commands) if commands else []
    failures = (reply for reply in replies if isinstance(reply, CommandFailure))
    return sum(reply == 1 for reply in replies), next(failures, None)
