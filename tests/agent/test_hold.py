"""How long a server is watched after a write: looks made by hand, no time passes."""

from collections.abc import Iterator

import pytest

from agent.hold import LASTING_LOOKS, Watched, after_the_write
from tests.agent.test_regressions import Value, from_zero, look
from tools.connection import Connection
from tools.pulse import Pulse


class Standing:
    """A connection on which waiting takes no time."""

    async def wait(self, seconds: float) -> None:
        pass


async def watched(monkeypatch: pytest.MonkeyPatch, hold: float, round_trip: Value) -> Watched:
    gauges = {"round_trip_ms": round_trip}
    before = [look(at, gauges, {}) for at in range(-10, 1, 2)]
    looks: Iterator[Pulse] = (look(at, gauges, {}) for at in range(1, 100))

    async def next_look(_: Connection) -> Pulse:
        return next(looks)

    async def tell(seconds: float, how: str) -> None:
        pass

    monkeypatch.setattr("agent.hold.take_pulse", next_look)
    return await after_the_write(
        Standing(),  # type: ignore[arg-type]
        before,
        frozenset(),
        hold,
        must_be=lambda _: None,
        tell=tell,
    )


async def test_a_busy_moment_at_the_end_of_a_short_hold_undoes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = await watched(monkeypatch, 3, lambda at: 8.0 if 0 < at <= 4 else 0.4)
    assert seen.found == []
    assert 3 < seen.seconds < LASTING_LOOKS


async def test_what_stays_worse_after_a_short_hold_is_told_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = await watched(monkeypatch, 3, from_zero(0.4, 8.0))
    assert [one.metric for one in seen.found] == ["round_trip_ms"]
    assert len(seen.pulses) == LASTING_LOOKS + 1


async def test_a_good_short_hold_is_no_longer_than_it_was_asked_to_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = await watched(monkeypatch, 3, from_zero(0.4, 0.4))
    assert (seen.found, seen.seconds, len(seen.pulses)) == ([], 3, 4)
