"""Watching a server around a write: for a while before it, over a hold after it, after an undo."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agent.policy import Policy, is_production
from agent.pulse_points import cost_of_calls, points, series, typical
from agent.regressions import CLEAR_LOOKS, FEWEST_LOOKS, Regression, regressions
from tools.connection import CommandFailure, Connection
from tools.pulse import Pulse, is_answer, take_pulse
from tools.remedies.remedy import Remedy

ELSEWHERE = 0.1
"""Of the hold in production: nobody is hurt by what a test server does a little later."""
BASELINE_SHARE = 1 / 3
LONGEST_BASELINE = 10.0
BASELINE_LOOKS = 5
"""Intervals: enough for a median, a scatter and a trend."""
MOST_LOOKS = 50
STEP_SECONDS = 1.0
TELL_SECONDS = 5.0
"""Between two words to whoever waits."""
LASTING_LOOKS = 2 * CLEAR_LOOKS
"""What is worse at the end of a short hold is looked at until there are so many."""
CALM_LOOKS = 4
"""After an undo: in the last so many, nothing is worse any more."""

Tell = Callable[[float, str], Awaitable[None]]
"""Seconds so far, and how it looks."""


def hold_seconds(remedy: Remedy[Any], environment: str, policy: Policy) -> float:
    """How long to watch after this remedy's write, there."""
    if policy.verify_for is not None:
        return policy.verify_for.total_seconds()
    return remedy.hold_seconds * (1.0 if is_production(environment) else ELSEWHERE)


async def before_the_write(connection: Connection, hold: float) -> dict[str, Any]:
    """`baseline`, `series` and `yardstick` of an outcome, from some seconds before the write.

    A server that answers no INFO (BUSY, LOADING) has none, and says why. Raises CommandFailure
    where it cannot be reached: what cannot be seen afterwards is not written to.
    """
    seconds = min(LONGEST_BASELINE, hold * BASELINE_SHARE)
    pulses: list[Pulse] = []
    try:
        pulses.append(await take_pulse(connection))
        for _ in range(BASELINE_LOOKS if seconds > 0 else 0):
            await connection.wait(seconds / BASELINE_LOOKS)
            pulses.append(await take_pulse(connection))
    except CommandFailure as failure:
        if not is_answer(failure):
            raise
        return {"baseline": {}, "yardstick": {"pulses": [], "because": str(failure)}}
    return {
        "baseline": typical(points(pulses, cost_of_calls(pulses))),
        "series": series(pulses, []),
        "yardstick": {"pulses": [pulse.to_json() for pulse in pulses]},
    }


def yardstick(outcome: dict[str, Any]) -> list[Pulse]:
    """The looks from before the write; none where there was no baseline."""
    kept = outcome.get("yardstick", {}).get("pulses", [])
    return [Pulse.from_json(pulse) for pulse in kept]


@dataclass(frozen=True)
class Watched:
    """What a hold has shown."""

    seconds: float
    pulses: list[Pulse]
    found: list[Regression]

    def outcome(self, before: Sequence[Pulse]) -> dict[str, Any]:
        """`after`, `series`, `held_seconds` and `regressions` of an outcome."""
        since = [*before[-1:], *self.pulses]
        return {
            "after": typical(points(since, cost_of_calls(before))),
            "series": series(before, self.pulses),
            "held_seconds": round(self.seconds, 1),
            "regressions": [regression.to_json() for regression in self.found],
        }


async def after_the_write(
    connection: Connection,
    before: Sequence[Pulse],
    disturbs: frozenset[str],
    seconds: float,
    *,
    must_be: Callable[[Pulse], None],
    tell: Tell,
) -> Watched:
    """Look again and again until the hold is over or something is clearly worse.

    The few looks of a short hold are at the mercy of a busy second: what is worse at its end has to
    last for some more. `must_be` raises where the server is not the one that was written to. Raises
    CommandFailure.
    """
    pulses = [await take_pulse(connection)]
    must_be(pulses[-1])
    step = max(STEP_SECONDS, seconds / MOST_LOOKS)
    held, told, found = 0.0, 0.0, list[Regression]()
    while held < seconds or (found and len(pulses) <= LASTING_LOOKS):
        wait = min(step, seconds - held) if held < seconds else STEP_SECONDS
        await connection.wait(wait)
        held += wait
        pulses.append(await take_pulse(connection))
        must_be(pulses[-1])
        since = [*before[-1:], *pulses]
        if clear := regressions(before, since, disturbs, clearly=True):
            return Watched(held, pulses, clear)
        found = regressions(before, since, disturbs)
        if held - told >= TELL_SECONDS:
            told = held
            await tell(held, "; ".join(one.because for one in found) or "nothing got worse")
    return Watched(held, pulses, found)


def unseen(pulses: Sequence[Pulse], metrics: Sequence[str]) -> list[str]:
    """Those of these gauges that too few of the looks could measure."""
    gauges = [name for name in metrics if any(name in pulse.gauges for pulse in pulses)]
    return [
        name
        for name in gauges
        if sum(pulse.gauges.get(name) is not None for pulse in pulses[1:]) < FEWEST_LOOKS
    ]


async def after_the_undo(
    connection: Connection,
    before: Sequence[Pulse],
    disturbs: frozenset[str],
    seconds: float,
    *,
    was_worse: Sequence[str] = (),
) -> Watched:
    """Look until nothing was worse than before for a moment, or patience is at its end.

    Only what is worse still counts: how it was until the undo is known. `was_worse`: metrics of
    which silence is no good sign. Raises CommandFailure.
    """
    pulses = [await take_pulse(connection)]
    held, found = 0.0, list[Regression]()
    while held < seconds:
        wait = min(STEP_SECONDS, seconds - held)
        await connection.wait(wait)
        held += wait
        pulses.append(await take_pulse(connection))
        lately = pulses[-1 - CALM_LOOKS :]
        found = regressions(before, lately, disturbs)
        if not found and len(pulses) > FEWEST_LOOKS and not unseen(lately, was_worse):
            break
    return Watched(held, pulses, found)
