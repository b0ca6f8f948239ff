"""A dead endpoint costs an incident nothing: after some failures it is left alone for a while."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from agent.context import ReasonerUnavailable

FAILURES = 3
"""Failed calls in a row, over all incidents."""
COOL_DOWN_SECONDS = 60.0
LONGEST_COOL_DOWN_SECONDS = 900.0


@dataclass
class Breaker:
    """Open after failures in a row; after the cool-down a single call finds out."""

    clock: Callable[[], float] = time.monotonic
    failures: int = 0
    last: str = ""
    """Why the last call failed."""
    _open_until: float = 0.0

    def check(self) -> None:
        """Whether the endpoint may be asked now. Raises ReasonerUnavailable, with the reason."""
        now = self.clock()
        if not self._open_until:
            return
        if now < self._open_until:
            until = datetime.now(UTC) + timedelta(seconds=self._open_until - now)
            times = "once" if self.failures == 1 else f"{self.failures} times in a row"
            raise ReasonerUnavailable(
                f"the model's endpoint failed {times}, last: {self.last}; "
                f"not asked again until {until:%H:%M:%S} UTC"
            )
        # This one call is the probe: others wait for what becomes of it.
        self._open_until = now + COOL_DOWN_SECONDS

    def succeeded(self) -> None:
        """The endpoint answered."""
        self.failures, self.last, self._open_until = 0, "", 0.0

    def failed(self, reason: str, seconds: float = 0.0) -> None:
        """A call failed. `seconds`: the endpoint itself asked to be left alone so long."""
        self.failures += 1
        self.last = reason
        usual = COOL_DOWN_SECONDS if self.failures >= FAILURES else 0.0
        if pause := min(max(seconds, usual), LONGEST_COOL_DOWN_SECONDS):
            self._open_until = self.clock() + pause
