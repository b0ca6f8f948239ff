"""Empty the script cache that scripts made from values filled."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from tools.catalogue import Arguments
from tools.connection import Connection, read_info
from tools.remedies.operation import ALONE, Operation
from tools.remedies.remedy import Check, Preview, Remedy, Risk, Verification
from tools.remedies.vitals import sized

MANY = 500
"""Where Redis 8 and Valkey 9 begin to evict scripts by themselves."""
WATCH_SECONDS = 1.0


class ScriptFlushArguments(Arguments):
    """How many scripts must be cached to be worth it."""

    min_scripts: int = Field(default=MANY, ge=MANY)


class ScriptFlush(Remedy[ScriptFlushArguments]):
    """SCRIPT FLUSH ASYNC. Never the synchronous form: it stalls everybody."""

    kind: ClassVar[str] = "script_flush"
    risk: ClassVar[Risk] = "R2"
    args = ScriptFlushArguments

    async def preview(self, connection: Connection, args: ScriptFlushArguments) -> Preview:
        """How many scripts go, and what they hold."""
        cache = await _cache(connection)
        return Preview(
            title=f"Empty the script cache ({cache['scripts']:,} scripts)",
            commands=[["SCRIPT", "FLUSH", "ASYNC"]],
            predicted_effect=f"Frees up to {sized(cache['bytes'])}, in the background. EVAL goes "
            "on as before. EVALSHA of a script that nobody loaded since answers NOSCRIPT; a "
            "client without the usual fallback to EVAL fails until it loads it again. Scripts "
            "made from values fill the cache again.",
            verification=f"Fewer than {args.min_scripts} scripts are cached, and no client meets "
            "NOSCRIPT errors that go on",
            rollback="none: clients load scripts again by themselves, with EVAL or SCRIPT LOAD",
            never_touches="keys, functions (FUNCTION LOAD), a script that runs, configuration",
        )

    async def preconditions(
        self, connection: Connection, args: ScriptFlushArguments
    ) -> list[Check]:
        """The cache is that full, and nobody depends on a digest that was loaded long ago."""
        cache = await _cache(connection)
        first = await _calls(connection)
        await connection.wait(WATCH_SECONDS)
        then = await _calls(connection)
        digests, loads = then[0] - first[0], then[1] - first[1]
        return [
            Check(
                text=f"At least {args.min_scripts} scripts are cached",
                holds=cache["scripts"] >= args.min_scripts,
                because=f"{cache['scripts']:,}",
            ),
            Check(
                text="Nobody calls scripts by digest, or whoever does loads what it calls",
                holds=2 * loads >= digests,
                because=f"{digests} EVALSHA and {loads} SCRIPT LOAD in {WATCH_SECONDS:.0f} s",
            ),
        ]

    async def capture(self, connection: Connection, args: ScriptFlushArguments) -> dict[str, Any]:
        """Scripts, their memory, and NOSCRIPT errors so far."""
        return await _cache(connection) | {"noscript": await _noscript(connection)}

    async def apply(
        self,
        connection: Connection,
        args: ScriptFlushArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """One SCRIPT FLUSH ASYNC."""
        await connection.execute("SCRIPT", "FLUSH", "ASYNC")
        return {}

    async def verify(
        self, connection: Connection, args: ScriptFlushArguments, captured: dict[str, Any]
    ) -> Verification:
        """The cache is small, and clients found their scripts again."""
        cache, before = await _cache(connection), await _noscript(connection)
        await connection.wait(WATCH_SECONDS)
        failing = await _noscript(connection) - before
        measured = cache | {"noscript_per_second": failing}
        if failing:
            because = f"{failing} calls a second meet NOSCRIPT: load their scripts again"
            return Verification(helped=False, because=because, measured=measured)
        because = f"{captured['scripts']:,} cached scripts became {cache['scripts']:,}"
        helped = cache["scripts"] < min(args.min_scripts, captured["scripts"])
        return Verification(helped=helped, because=because, measured=measured)

    def disturbs(self, args: ScriptFlushArguments) -> frozenset[str]:
        """Clients meet NOSCRIPT once and load again; verify judges whether they do."""
        return frozenset({"errors.NOSCRIPT"})

    async def undo(
        self,
        connection: Connection,
        args: ScriptFlushArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """Nothing we could put back: we never read a script's text."""
        return {"nothing_to_put_back": "clients load their scripts again"}

    async def settle(
        self, connection: Connection, args: ScriptFlushArguments, captured: dict[str, Any]
    ) -> Literal["applied", "not_applied", "unknown"]:
        """A cache only grows by itself, up to the limit of builds that evict."""
        now = (await _cache(connection))["scripts"]
        return "applied" if now < captured["scripts"] / 2 else "not_applied"


async def _cache(connection: Connection) -> dict[str, int]:
    """Cached scripts, and the bytes of the VM and of the cache."""
    info = await read_info(connection, "memory")
    vm = int(info.get("used_memory_vm_eval") or info.get("used_memory_lua") or 0)
    texts = int(info.get("used_memory_scripts_eval") or 0)
    return {"scripts": int(info.get("number_of_cached_scripts") or 0), "bytes": vm + texts}


async def _calls(connection: Connection) -> tuple[int, int]:
    """EVALSHA calls and loads, since the start."""
    info = await read_info(connection, "commandstats")
    digests = _count(info, "evalsha") + _count(info, "evalsha_ro")
    # 6.2 counts subcommands of SCRIPT together.
    loads = _count(info, "script|load") + _count(info, "script")
    return digests, loads


def _count(info: dict[str, str], command: str) -> int:
    first = info.get(f"cmdstat_{command}", "calls=0").partition(",")[0]
    return int(first.partition("=")[2] or 0)


async def _noscript(connection: Connection) -> int:
    info = await read_info(connection, "errorstats")
    return int(info.get("errorstat_NOSCRIPT", "count=0").partition("=")[2] or 0)
