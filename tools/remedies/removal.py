"""Remove the keys of one prefix: kept in a backup first, then unlinked, gently and reversibly."""

from collections.abc import AsyncIterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from tools.catalogue import Arguments
from tools.connection import CommandFailure, Connection
from tools.reading import printable
from tools.remedies.guarded_removal import keep_and_watch, remove
from tools.remedies.operation import ALONE, Backup, BackupDamaged, Backups, Operation, Saved
from tools.remedies.pace import LONGEST_SECONDS, Pace
from tools.remedies.prefix_scan import escaped, matching_pages, survey
from tools.remedies.remedy import Check, Need, Preview, Remedy, Risk, Verification
from tools.remedies.restoring import LEFT, restore
from tools.remedies.vitals import MIB, is_primary, read_vitals, round_trip_seconds, sized

CANARY = 10
"""Keys of the first batch; read back from the backup before any of them is removed."""
BATCH_BYTES = 8 * MIB
SAMPLES = 5
"""Elements that MEMORY USAGE looks at in a collection."""


class RemovePrefixArguments(Arguments):
    """Which keys, and how many at most."""

    prefix: str = Field(min_length=2, max_length=200)
    """As it is, glob characters included: `session:`, without a star."""
    owner_confirmed: bool = False
    """The owner of the data says that these keys may go."""
    max_keys: int = Field(default=100_000, ge=1, le=10_000_000)
    max_bytes: int = Field(default=1024 * MIB, ge=MIB, le=2**40)
    """Of values in the backup."""
    largest_key_bytes: int = Field(default=4 * MIB, ge=1024, le=64 * MIB)
    """A larger one is left and counted: to DUMP it would stall everybody."""
    batch_size: int = Field(default=200, ge=10, le=500)


class RemovePrefix(Remedy[RemovePrefixArguments]):
    """DUMP into a backup, then UNLINK in a transaction. Nobody but the owner may ask for it."""

    kind: ClassVar[str] = "remove_prefix"
    risk: ClassVar[Risk] = "R3"
    args = RemovePrefixArguments
    needs: ClassVar[frozenset[Need]] = frozenset({"backups"})

    async def preview(self, connection: Connection, args: RemovePrefixArguments) -> Preview:
        """How many keys and bytes go, and what is left."""
        seen = await survey(connection, args.prefix, size_of_all=True)
        name = printable(args.prefix)
        keys = min(seen.keys, args.max_keys)
        pattern = escaped(args.prefix).decode("utf-8", "backslashreplace") + "*"
        size = int(keys * (seen.mean_bytes or 0))
        of_memory = f" (about {sized(size)})" if seen.mean_bytes else ""
        expiry = "PEXPIRETIME" if seen.has_nx else "PTTL"
        return Preview(
            title=f"Remove the keys of {name}*, after a backup",
            commands=[
                ["SCAN", "<cursor>", "MATCH", printable(pattern), "COUNT", str(args.batch_size)],
                ["MEMORY", "USAGE", f"<each key of {name}*>", "SAMPLES", str(SAMPLES)],
                ["WATCH", "<each of a batch>"],
                ["DUMP", "<each of a batch>"],
                [expiry, "<each of a batch>"],
                ["MULTI"],
                ["UNLINK", "<each of a batch>"],
                ["EXEC"],
            ],
            predicted_effect=f"About {keys:,} keys go{of_memory}, of about "
            f"{seen.keys:,} under {name}, {1 - seen.without_ttl_share:.0%} of those seen with an "
            "expiry. A key that is written to meanwhile is left alone and counted, and so is one "
            f"above {sized(args.largest_key_bytes)}. Whoever reads a removed key misses it; what "
            "the application writes again stays.",
            verification=f"At most half as many keys of {name}* are found as before",
            rollback="RESTORE from the backup, with value and expiry as they were, of each key "
            "that nobody has written again; possible until the backup expires",
            blast_radius=f"at most {args.max_keys:,} keys of {name}* and "
            f"{sized(args.max_bytes)} of values; {CANARY} keys first, then at most "
            f"{args.batch_size} or {sized(BATCH_BYTES)} at a time; stops on request, when the "
            f"target slows down, when the backup has no room, and after {LONGEST_SECONDS:.0f} s",
            never_touches=f"keys that do not start with {name}, other databases, other nodes of a "
            "cluster. A server too full for transactions is told UNLINK without one, right after "
            "the keys were compared with the backup",
        )

    async def preconditions(
        self, connection: Connection, args: RemovePrefixArguments
    ) -> list[Check]:
        """Confirmed by the owner, on a primary, and no more keys than may be removed."""
        vitals = await read_vitals(connection)
        seen = await survey(connection, args.prefix)
        name = printable(args.prefix)
        because = f"about {seen.keys:,}, from {seen.scanned:,} keys looked at"
        return [
            Check(
                text=f"The owner of the data says that {name}* may be removed",
                holds=args.owner_confirmed,
                because="confirmed" if args.owner_confirmed else "not confirmed",
            ),
            is_primary(vitals),
            Check(
                text=f"There are keys of {name}*",
                holds=True if seen.keys else (False if seen.complete else None),
                because=because,
            ),
            Check(
                text=f"They are at most {args.max_keys:,}",
                holds=seen.keys <= args.max_keys,
                because=because,
            ),
        ]

    async def capture(self, connection: Connection, args: RemovePrefixArguments) -> dict[str, Any]:
        """How many there are. What is removed is in the backup."""
        seen = await survey(connection, args.prefix)
        return {
            "keys": seen.keys,
            "used_memory": (await read_vitals(connection)).used,
            "round_trip_seconds": await round_trip_seconds(connection),
        }

    async def apply(
        self,
        connection: Connection,
        args: RemovePrefixArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """Batch by batch, each on disk before it is removed; a canary first."""
        if operation.backups is None:
            raise CommandFailure("not_allowed", "remove keys", "there is nowhere to keep them")
        done = _nothing_done()
        tried = f"keep the keys of {printable(args.prefix)}*"
        try:
            backup = await operation.backups.open(operation.id)
        except (OSError, BackupDamaged) as trouble:
            raise CommandFailure("error", tried, f"nothing was removed: {trouble}") from None
        work = _Work(connection, args, operation, operation.backups, backup, done)
        try:
            await work.remove_all(Pace(connection, captured["round_trip_seconds"], operation))
        except (OSError, BackupDamaged) as trouble:
            if not done["keys_removed"]:
                raise CommandFailure("error", tried, f"nothing was removed: {trouble}") from None
            done["stopped_because"] = f"the backup takes no more: {trouble}"
        finally:
            receipt = await backup.close()
        return done | {"backup": receipt}

    async def verify(
        self, connection: Connection, args: RemovePrefixArguments, captured: dict[str, Any]
    ) -> Verification:
        """Half of them, or more, are gone and stay away."""
        seen = await survey(connection, args.prefix)
        done, before = captured.get("done", {}), captured["keys"]
        used, used_before = (await read_vitals(connection)).used, captured["used_memory"]
        because = f"keys of {printable(args.prefix)}* went from {before:,} to {seen.keys:,}"
        if used is not None and used_before is not None:
            because += f", memory in use from {sized(used_before)} to {sized(used)}"
        removed = done.get("keys_removed")
        if removed is not None:
            because += f"; {removed:,} removed"
        for name, words in _LEFT_OVER.items():
            if done.get(name):
                because += f", {done[name]:,} {words}"
        if done.get("stopped_because"):
            because += f"; {done['stopped_because']}"
        elif removed and seen.keys > before / 2 and removed >= before / 2:
            because += "; the application writes them again"
        measured = {"keys": seen.keys, "keys_before": before, "used_memory": used}
        helped = seen.keys <= before / 2
        return Verification(helped=helped, because=because, measured=measured)

    async def undo(
        self,
        connection: Connection,
        args: RemovePrefixArguments,
        captured: dict[str, Any],
        operation: Operation = ALONE,
    ) -> dict[str, Any]:
        """RESTORE what is in the backup and does not exist."""
        done = captured.get("done", {})
        if not done:
            return {"nothing_to_put_back": "nothing was removed"}
        if operation.backups is None:
            raise CommandFailure("not_allowed", "restore keys", "the backups are not configured")
        return await restore(connection, operation.backups, operation)

    async def settle(
        self, connection: Connection, args: RemovePrefixArguments, captured: dict[str, Any]
    ) -> Literal["applied", "not_applied", "unknown"]:
        """Progress is noted before each removal: without any, nothing was removed.

        With a first batch in doubt it counts as removed: the undo restores only what is missing.
        """
        return "applied" if captured.get("done") else "not_applied"

    async def verify_undo(
        self, connection: Connection, args: RemovePrefixArguments, captured: dict[str, Any]
    ) -> Verification:
        """As many are there as before, but for what may have expired or been deleted since."""
        seen = await survey(connection, args.prefix)
        before = captured["keys"]
        because = f"{seen.keys:,} keys of {printable(args.prefix)}*, {before:,} before"
        helped = True if seen.keys >= 0.9 * before else None
        return Verification(helped=helped, because=because, measured={"keys": seen.keys})


_LEFT_OVER = {
    "changed_meanwhile": "changed meanwhile and left alone",
    "too_large": "too large and left alone",
    "keys_in_doubt": "in doubt",
}


def _nothing_done() -> dict[str, Any]:
    counts = ("keys_removed", "keys_in_doubt", "changed_meanwhile", "too_large", "unguarded")
    return dict.fromkeys(counts, 0) | {"bytes_kept": 0, "batches": 0, "stopped_because": ""}


class _Work:
    """One removal under way."""

    def __init__(
        self,
        connection: Connection,
        args: RemovePrefixArguments,
        operation: Operation,
        backups: Backups,
        backup: Backup,
        done: dict[str, Any],
    ) -> None:
        self.connection, self.args, self.operation = connection, args, operation
        self.backups, self.backup, self.done = backups, backup, done
        self.has_expiretime = False

    async def remove_all(self, pace: Pace) -> None:
        """Until all is gone, a bound is met or somebody says stop. Raises CommandFailure, OSError,
        BackupDamaged.
        """  # noqa: D205
        self.has_expiretime = (await read_vitals(self.connection)).at_least(7)
        async for keys in self._batches():
            stop = self._at_its_bound(len(keys)) or await self._remove(keys)
            if stop := stop or await pace.next(self.done):
                self.done["stopped_because"] = stop
                return

    async def _batches(self) -> AsyncIterator[list[bytes]]:
        """Keys that are small enough, few at first, never more than BATCH_BYTES of them."""
        batch: dict[bytes, None] = {}  # a SCAN may return a key on several pages
        size, most = 0, CANARY
        async for page in matching_pages(self.connection, self.args.prefix, self.args.batch_size):
            for key, usage in await self._sized(page):
                if usage > self.args.largest_key_bytes:
                    self.done["too_large"] += 1
                    continue
                if batch and (len(batch) >= most or size + usage > BATCH_BYTES):
                    yield list(batch)
                    batch, size, most = {}, 0, self.args.batch_size
                batch[key] = None
                size += usage
        if batch:
            yield list(batch)

    async def _sized(self, keys: list[bytes]) -> list[tuple[bytes, int]]:
        commands = [("MEMORY", "USAGE", key, "SAMPLES", SAMPLES) for key in keys]
        sizes = await self.connection.execute_many(commands)
        for size in sizes:
            if isinstance(size, CommandFailure):
                raise size
        return [(key, n) for key, n in zip(keys, sizes, strict=True) if isinstance(n, int)]

    def _at_its_bound(self, more: int) -> str:
        done, args = self.done, self.args
        if done["keys_removed"] + more > args.max_keys:
            return f"the limit of {args.max_keys:,} keys was reached"
        if done["bytes_kept"] >= args.max_bytes:
            return f"the limit of {sized(args.max_bytes)} was reached"
        return ""

    async def _remove(self, keys: list[bytes]) -> str:
        """Keep, note, remove. A text: stop here."""
        done = self.done
        kept = await keep_and_watch(self.connection, keys, has_expiretime=self.has_expiretime)
        if not kept:
            await self.connection.execute("UNWATCH")
            return ""
        await self.backup.add(kept)
        if done["batches"] == 0:
            await self._prove(kept)
        done["keys_in_doubt"] = len(kept)
        if stop := await self.operation.note(done):
            await self.connection.execute("UNWATCH")
            done["keys_in_doubt"] = 0
            return stop
        removed = await remove(self.connection, kept, has_expiretime=self.has_expiretime)
        await self.backup.add([Saved(one.name, b"", kind=LEFT) for one in removed.left])
        done["keys_removed"] += removed.keys
        done["changed_meanwhile"] += len(removed.left)
        done["unguarded"] += removed.unguarded
        done["bytes_kept"] += sum(len(one.payload) for one in kept)
        done["batches"] += 1
        done["keys_in_doubt"] = 0
        return ""

    async def _prove(self, kept: list[Saved]) -> None:
        """The canary can be put back: what the backup gives is what was put in."""
        read = [saved async for saved in self.backups.read(self.operation.id)]
        if read[-len(kept) :] != kept:
            raise BackupDamaged("what was just kept does not read back")
