"""Defragment with a ceiling on CPU, watched, and switched off again when it is done or hurts."""

import time
from typing import Any, ClassVar, Literal

from pydantic import Field

from tools.catalogue import Arguments
from tools.connection import CommandFailure, Connection, read_info
from tools.remedies.operation import ALONE, Operation
from tools.remedies.pace import LONGEST_SECONDS, Pace
from tools.remedies.probing import accepts
from tools.remedies.remedy import Check, Preview, Remedy, Risk, Verification
from tools.remedies.vitals import (
    MIB,
    Vitals,
    read_parameter,
    read_vitals,
    round_trip_seconds,
    sized,
)

LOOK_SECONDS = 1.0
IDLE_LOOKS = 5
"""So many looks in a row at which it does not run: there is no more to be had."""
BUSY_SHARE, BUSY_LOOKS = 0.9, 3
"""Of one core, in so many looks in a row: nothing is left for commands."""
GIVEN_BACK = 0.9
"""Of the fragmentation before: less is left once it has done something."""
LEFT_ALONE = 0.25
"""Of the fragmentation before: the rest is not worth a CPU."""
CPU = ("used_cpu_user_main_thread", "used_cpu_sys_main_thread")


class DefragmentArguments(Arguments):
    """How hard, and for what."""

    max_cpu_percent: int = Field(default=10, ge=2, le=25)
    """Of one core: active-defrag-cycle-max while it runs."""
    min_gain_bytes: int = Field(default=100 * MIB, ge=MIB)
    """Less fragmentation is not worth it."""


class Defragment(Remedy[DefragmentArguments]):
    """activedefrag for as long as it helps; all three parameters are put back afterwards."""

    kind: ClassVar[str] = "defragment"
    risk: ClassVar[Risk] = "R1"
    args = DefragmentArguments

    async def preview(self, connection: Connection, args: DefragmentArguments) -> Preview:
        """How much may come back, and for how much CPU."""
        lost = (await read_vitals(connection)).count("allocator_frag_bytes")
        former = await _read(connection, _wanted(args, lost or 0))
        return Preview(
            title=f"Defragment with at most {args.max_cpu_percent} % of a core, then stop",
            commands=_commands(_wanted(args, lost or 0)) + _commands(former),
            predicted_effect=f"Up to {sized(lost) if lost is not None else 'an unknown amount'} "
            f"of fragmentation is given back, for at most {args.max_cpu_percent} % of one core "
            f"and {LONGEST_SECONDS / 60:.0f} minutes. A build without defragmentation refuses, "
            "and nothing changes.",
            verification="allocator_frag_bytes falls by a tenth or more, and the parameters are "
            "as they were",
            rollback="the three parameters are set back, also when it is stopped; what was "
            "moved needs no undo",
            never_touches="keys, expiries, any other parameter, the configuration file",
            blast_radius=f"{args.max_cpu_percent} % of one core; stops when it is done, on "
            f"request, when the target slows down, when its main thread is busy for "
            f"{BUSY_SHARE:.0%}, and after {LONGEST_SECONDS:.0f} s",
        )

    async def preconditions(self, connection: Connection, args: DefragmentArguments) -> list[Check]:
        """jemalloc, enough to be had, not running already, and a build that can."""
        vitals = await read_vitals(connection)
        lost, allocator = vitals.count("allocator_frag_bytes"), vitals.fields.get("mem_allocator")
        now = await read_parameter(connection, "activedefrag")
        checks = [
            Check(
                text="The allocator is jemalloc, without which nothing can be defragmented",
                holds=None if allocator is None else allocator.startswith("jemalloc"),
                because=f"mem_allocator: {allocator or 'not reported'}",
            ),
            Check(
                text=f"At least {sized(args.min_gain_bytes)} are lost between allocations",
                holds=None if lost is None else lost >= args.min_gain_bytes,
                because="not reported" if lost is None else sized(lost),
            ),
            Check(
                text="Defragmentation is off now",
                holds=None if now is None else now == "no",
                because=f"activedefrag: {now or 'not reported'}",
            ),
        ]
        if checks[0].holds and now == "no":
            able = await accepts(connection, "activedefrag", "yes")
            checks += [] if able is None else [able]
        return checks

    async def capture(self, connection: Connection, args: DefragmentArguments) -> dict[str, Any]:
        """The parameters as they are, as they are to be, and what is lost."""
        vitals = await read_vitals(connection)
        wanted = _wanted(args, vitals.count("allocator_frag_bytes") or 0)
        return {
            "former": await _read(connection, wanted),
            "wanted": wanted,
            "allocator_frag_bytes": vitals.count("allocator_frag_bytes"),
            "used_memory_rss": vitals.count("used_memory_rss"),
            "round_trip_seconds": await round_trip_seconds(connection),
        }

    async def apply(
        self,
        connection: Connection,
        args: DefragmentArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """On, watched, off. Raises CommandFailure."""
        done: dict[str, Any] = {"seconds": 0, "most_cpu_share": 0.0, "stopped_because": ""}
        try:
            for command in _commands(captured["wanted"]):
                await connection.execute(*command)
            await _watch(connection, captured, operation, done)
        except CommandFailure:
            await _put_back(connection, captured)
            raise
        await _put_back(connection, captured)
        return done

    async def verify(
        self, connection: Connection, args: DefragmentArguments, captured: dict[str, Any]
    ) -> Verification:
        """Something came back, and it is off again."""
        vitals = await read_vitals(connection)
        now = await _read(connection, captured["former"])
        lost, before = vitals.count("allocator_frag_bytes"), captured["allocator_frag_bytes"]
        measured = {
            "allocator_frag_bytes": lost,
            "used_memory_rss": vitals.count("used_memory_rss"),
            **now,
        }
        if now != captured["former"]:
            because = "defragmentation was cut off and its parameters are not as they were"
            return Verification(helped=False, because=because, measured=measured)
        if lost is None or before is None:
            because = "this server does not report its fragmentation"
            return Verification(helped=None, because=because, measured=measured)
        because = f"fragmentation went from {sized(before)} to {sized(lost)}"
        if stopped := captured.get("done", {}).get("stopped_because"):
            because += f"; {stopped}"
        return Verification(helped=lost < GIVEN_BACK * before, because=because, measured=measured)

    async def undo(
        self,
        connection: Connection,
        args: DefragmentArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """The parameters as they were, where they are still ours."""
        await _put_back(connection, captured)
        return await _read(connection, captured["former"])

    def disturbs(self, args: DefragmentArguments) -> frozenset[str]:
        """It takes CPU, and so some latency."""
        return frozenset({"latency"})

    async def settle(
        self, connection: Connection, args: DefragmentArguments, captured: dict[str, Any]
    ) -> Literal["applied", "not_applied", "unknown"]:
        """A parameter that is not as it was was set, and has to be set back."""
        as_it_was = await _read(connection, captured["former"]) == captured["former"]
        return "not_applied" if as_it_was else "applied"


def _wanted(args: DefragmentArguments, lost: int) -> dict[str, str]:
    """In the order in which they are set."""
    return {
        "active-defrag-cycle-max": str(args.max_cpu_percent),
        "active-defrag-ignore-bytes": str(max(10 * MIB, int(lost * LEFT_ALONE))),
        "activedefrag": "yes",
    }


def _commands(values: dict[str, str]) -> list[list[str]]:
    return [["CONFIG", "SET", parameter, value] for parameter, value in values.items()]


async def _read(connection: Connection, parameters: dict[str, str]) -> dict[str, str]:
    """The same parameters as they are now."""
    return {name: await read_parameter(connection, name) or "" for name in parameters}


async def _put_back(connection: Connection, captured: dict[str, Any]) -> None:
    """Off first. What somebody else has set since is left as it is. Raises CommandFailure."""
    wanted, former = captured["wanted"], captured["former"]
    now = await _read(connection, wanted)
    for parameter in reversed(list(wanted)):
        if now[parameter] == wanted[parameter] and former[parameter]:
            await connection.execute("CONFIG", "SET", parameter, former[parameter])


async def _watch(
    connection: Connection, captured: dict[str, Any], operation: Operation, done: dict[str, Any]
) -> None:
    """Until there is no more to be had, or it hurts."""
    pace = Pace(connection, captured["round_trip_seconds"], operation)
    goal = LEFT_ALONE * (captured["allocator_frag_bytes"] or 0)
    idle = busy = 0
    started, cpu_before = time.monotonic(), await _cpu_seconds(connection)
    looked = started
    while True:
        await connection.wait(LOOK_SECONDS)
        vitals, cpu, now = (
            await read_vitals(connection),
            await _cpu_seconds(connection),
            time.monotonic(),
        )
        share = None if cpu is None or cpu_before is None else (cpu - cpu_before) / (now - looked)
        cpu_before, looked = cpu, now
        _note(done, vitals, share, now - started)
        idle = 0 if vitals.count("active_defrag_running") else idle + 1
        busy = busy + 1 if share is not None and share > BUSY_SHARE else 0
        if idle >= IDLE_LOOKS or (vitals.count("allocator_frag_bytes") or 0) <= goal:
            return
        stop = f"its main thread was busy for over {BUSY_SHARE:.0%}" if busy >= BUSY_LOOKS else ""
        if stop := stop or await pace.next(done):
            done["stopped_because"] = stop
            return


def _note(done: dict[str, Any], vitals: Vitals, share: float | None, seconds: float) -> None:
    done["seconds"] = round(seconds)
    done["allocator_frag_bytes"] = vitals.count("allocator_frag_bytes")
    done["most_cpu_share"] = round(max(done["most_cpu_share"], share or 0.0), 2)


async def _cpu_seconds(connection: Connection) -> float | None:
    """Of the main thread, since the start; None: not reported."""
    info = await read_info(connection, "cpu")
    try:
        return sum(float(info[name]) for name in CPU)
    except (KeyError, ValueError):
        return None
