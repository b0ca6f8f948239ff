"""Set one configuration parameter, for as long as it helps and no longer than that."""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from tools.catalogue import Arguments
from tools.connection import CommandFailure, Connection
from tools.remedies.artefacts import artefact
from tools.remedies.operation import ALONE, Operation
from tools.remedies.parameters import RULES
from tools.remedies.remedy import Check, Preview, Remedy, Risk, Verification
from tools.remedies.situation import Situation, current_value
from tools.remedies.vitals import read_clients, read_parameter, read_vitals, sized

_DISTURBS = {
    "maxmemory": frozenset({"pressure", "used_memory_rss"}),  # writes are accepted again
    "repl-backlog-size": frozenset({"pressure", "used_memory_rss"}),  # it is taken at once
    "client-output-buffer-limit": frozenset({"buffer_disconnections", "connected_clients"}),
    "client-query-buffer-limit": frozenset({"connected_clients"}),
    "timeout": frozenset({"connected_clients"}),
}
REFUSED = frozenset({"refused", "unknown_command", "error"})
ELSEWHERE = (
    "make the change where the server is configured: this action holds it as redis.conf, Helm "
    "values, Terraform and the providers' commands"
)
"""What is said where CONFIG SET is refused or does not last."""
FREED = 0.9
"""Of the fragmentation before: less is left once defragmentation has done something."""


class SetConfigArguments(Arguments):
    """One parameter of `parameters.RULES` and the value it is to have."""

    parameter: str
    value: str = Field(max_length=100)
    """Sizes in bytes or with kb/mb/gb; of client-output-buffer-limit one class:
    `pubsub 32mb 8mb 60`."""
    owner_confirmed_cache: bool = False
    """The owner of the data says that every key may be lost."""
    owner_accepts_loss: bool = False
    """Of appendfsync: the owner says that a crash may lose up to a second of writes."""
    memory_limit: int | None = Field(default=None, gt=0)
    """Bytes the server may use (a container limit), if host memory does not say."""
    expected: str = Field(default="", max_length=200)
    """What it was when this was proposed: whoever changed it since knows better. Empty: any."""
    culprit: str = Field(default="", max_length=250)
    """Name, else address, of the one client that the limit is meant to hit."""

    @model_validator(mode="before")
    @classmethod
    def _canonical(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("parameter"), str):
            return data
        rule = RULES.get(data["parameter"])
        if rule is None:
            raise ValueError(f"'{data['parameter']}' is not a parameter that may be set from here")
        return {**data, "value": rule.canonical(str(data.get("value", "")))}


class SetConfig(Remedy[SetConfigArguments]):
    """CONFIG SET of one parameter. Never CONFIG REWRITE: a restart brings the old value back."""

    kind: ClassVar[str] = "set_config"
    risk: ClassVar[Risk] = "R1"
    args = SetConfigArguments

    async def preview(self, connection: Connection, args: SetConfigArguments) -> Preview:
        """Old and new value, and what the rule says the change does."""
        situation = await self._situation(connection, args)
        old = situation.old or "not reported"
        return Preview(
            title=f"Set {args.parameter} to {args.value} (now {old})",
            commands=[_command(args, args.value)],
            predicted_effect=RULES[args.parameter].effect(situation),
            verification=f"CONFIG GET {args.parameter} answers {args.value}; pressure, refused "
            "writes and evictions are compared with before",
            rollback=" ".join(_command(args, situation.old)) if situation.old else "none",
            never_touches="keys, the configuration file, any other parameter"
            + (" or class" if args.parameter == "client-output-buffer-limit" else ""),
            artefact=artefact(args.parameter, args.value),
        )

    async def preconditions(self, connection: Connection, args: SetConfigArguments) -> list[Check]:
        """The build has the parameter, the value is new, and what the parameter's rule asks."""
        situation = await self._situation(connection, args)
        known = Check(
            text=f"This server has {args.parameter}",
            holds=bool(situation.old),
            because=f"CONFIG GET answers {situation.old or 'nothing'}",
        )
        if not situation.old:
            return [known]
        fresh = Check(
            text="The value differs from the present one",
            holds=situation.old != args.value,
            because=f"now {situation.old}",
        )
        unchanged = Check(
            text="Nobody changed it since this was proposed",
            holds=args.expected in ("", situation.old),
            because=f"now {situation.old}, then {args.expected or 'not noted'}",
        )
        return [known, fresh, unchanged, *RULES[args.parameter].checks(situation)]

    async def capture(self, connection: Connection, args: SetConfigArguments) -> dict[str, Any]:
        """The old value, and pressure, refused writes and evictions."""
        return {"old": await self._current(connection, args)} | await self._numbers(connection)

    async def apply(
        self,
        connection: Connection,
        args: SetConfigArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """One CONFIG SET."""
        try:
            await connection.execute(*_command(args, args.value))
        except CommandFailure as failure:
            if failure.kind not in REFUSED:
                raise
            failed = f"{failure.failed}; {ELSEWHERE}"
            raise CommandFailure(failure.kind, failure.tried, failed, failure.remedy) from None
        return {"set": args.value} | await self._numbers(connection)

    async def verify(
        self, connection: Connection, args: SetConfigArguments, captured: dict[str, Any]
    ) -> Verification:
        """The value is in effect, and nothing got worse."""
        now = await self._current(connection, args)
        numbers = await self._numbers(connection)
        measured = {"value": now, **numbers}
        if now != args.value:
            because = f"{args.parameter} is {now}: something set it back; {ELSEWHERE}"
            return Verification(helped=False, because=because, measured=measured)
        # Compared with the numbers read right after the write: earlier ones are not its doing.
        before = {**captured, **captured.get("done", {})}
        lost = _rise("evicted_keys", before, numbers)
        if RULES[args.parameter].may_cause_evictions and lost:
            because = f"{lost:,} keys were evicted since the change"
            return Verification(helped=False, because=because, measured=measured)
        if args.parameter == "maxmemory":
            return _writes_fit(numbers, before, measured)
        if args.parameter == "activedefrag" and now == "yes":
            return _defragments(captured, measured)
        because = f"{args.parameter} is {now}"
        return Verification(helped=True, because=because, measured=measured)

    async def undo(
        self,
        connection: Connection,
        args: SetConfigArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """Set the old value, if the present one is still ours and the old one is still safe."""
        old = captured["old"]
        now = await self._current(connection, args)
        if now == old:
            return {"value": now, "already": True}
        tried = " ".join(_command(args, old))
        if now != args.value:
            failed = f"{args.parameter} is {now}: somebody changed it since, and it is left alone"
            raise CommandFailure("error", tried, failed)
        if args.parameter == "maxmemory":
            await _refuse_to_evict(connection, old, tried)
        await connection.execute(*_command(args, old))
        return {"value": await self._current(connection, args)}

    def disturbs(self, args: SetConfigArguments) -> frozenset[str]:
        """What the parameter is there to move; never evictions, unless they are the point."""
        if args.parameter == "maxmemory-policy" and args.owner_confirmed_cache:
            return frozenset({"evicted_keys", "miss_share"})
        return _DISTURBS.get(args.parameter, frozenset())

    async def settle(
        self, connection: Connection, args: SetConfigArguments, captured: dict[str, Any]
    ) -> Literal["applied", "not_applied", "unknown"]:
        """The value itself says it."""
        now = await self._current(connection, args)
        if now == args.value:
            return "applied"
        return "not_applied" if now == captured["old"] else "unknown"

    async def _current(self, connection: Connection, args: SetConfigArguments) -> str:
        raw = await read_parameter(connection, args.parameter)
        return "" if raw is None else current_value(args.parameter, raw, args.value)

    async def _situation(self, connection: Connection, args: SetConfigArguments) -> Situation:
        rule = RULES[args.parameter]
        return Situation(
            parameter=args.parameter,
            old=await self._current(connection, args),
            new=args.value,
            vitals=await read_vitals(connection),
            clients=await read_clients(connection) if rule.needs_clients else [],
            owner_confirmed_cache=args.owner_confirmed_cache,
            owner_accepts_loss=args.owner_accepts_loss,
            memory_limit=args.memory_limit,
            culprit=args.culprit,
        )

    async def _numbers(self, connection: Connection) -> dict[str, Any]:
        vitals = await read_vitals(connection)
        return {
            "used_memory": vitals.used,
            "used_memory_rss": vitals.count("used_memory_rss"),
            "pressure": vitals.pressure,
            "oom_errors": vitals.oom_errors,
            "evicted_keys": vitals.count("evicted_keys"),
            "allocator_frag_bytes": vitals.count("allocator_frag_bytes"),
            "active_defrag_running": vitals.count("active_defrag_running"),
        }


def _command(args: SetConfigArguments, value: str) -> list[str]:
    # Of client-output-buffer-limit, a server changes only the classes it is told.
    return ["CONFIG", "SET", args.parameter, value]


def _rise(name: str, before: dict[str, Any], after: dict[str, Any]) -> int:
    """How much a counter rose; 0 where the server does not report it."""
    if before.get(name) is None or after.get(name) is None:
        return 0
    return int(after[name]) - int(before[name])


def _writes_fit(
    numbers: dict[str, Any], before: dict[str, Any], measured: dict[str, Any]
) -> Verification:
    pressure = numbers["pressure"]
    refused = _rise("oom_errors", before, numbers)
    if pressure is None:
        because = "pressure cannot be computed: used memory or its limit is not reported"
        return Verification(helped=None, because=because, measured=measured)
    because = f"pressure is {pressure:.0%}, {refused:,} writes refused since the change"
    return Verification(helped=pressure < 1 and refused == 0, because=because, measured=measured)


def _defragments(before: dict[str, Any], measured: dict[str, Any]) -> Verification:
    """It runs, or has already given something back; a threshold above the waste keeps it off."""
    running, lost = measured["active_defrag_running"], measured["allocator_frag_bytes"]
    first = before.get("allocator_frag_bytes")
    if running is None or lost is None or first is None:
        because = "this server does not report what defragmentation does"
        return Verification(helped=None, because=because, measured=measured)
    because = f"runs at {running} %; fragmentation went from {sized(first)} to {sized(lost)}"
    helped = running > 0 or lost < FREED * first
    return Verification(helped=helped, because=because, measured=measured)


async def _refuse_to_evict(connection: Connection, old: str, tried: str) -> None:
    """Going back below what is in use would evict at once what was written meanwhile."""
    vitals = await read_vitals(connection)
    used, policy = vitals.counted, await read_parameter(connection, "maxmemory-policy")
    if old == "0" or policy == "noeviction":
        return
    if used is None or used >= int(old):
        raise CommandFailure(
            "error", tried, "more than the old limit is in use: going back would evict keys"
        )
