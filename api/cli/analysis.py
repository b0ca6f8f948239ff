"""The keyspace of a live server: walked, with progress on a terminal, and printed."""

import asyncio
import contextlib
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import typer
from pydantic import Field, ValidationError
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar

from agent.context import Target
from agent.reaching import open_target
from api.cli import render
from api.cli.analysis_report import Analysis, analysis_report
from api.cli.oneshot import failure, settings_or_exit, target_of
from tools.bigkeys import BigKeysArguments, bigkeys
from tools.connection import CommandFailure, Connection
from tools.encodings import EncodingsArguments, encodings
from tools.hotkeys import HotKeysArguments, hot_keys
from tools.keyspace import BigKeys
from tools.nodes import NodesArguments, nodes
from tools.progress import Progress, Watch, watched
from tools.reading import NotMeasured
from tools.reads import READS
from tools.replicas import Walker, walking_nodes
from tools.target_url import deployment_of

INTERRUPTED = 130
_RDB = b"REDIS", b"VALKEY"


@dataclass(frozen=True)
class Wish:
    """How it is to be walked."""

    mode: Literal["exact", "sampled"]
    pace: Literal["gentle", "fast"]
    every_key: bool
    hot: bool
    lengths: bool
    seconds: float
    resume: str


class _Patient(BigKeysArguments):
    """Of a person who waits for all keys."""

    seconds: float = Field(default=3_600, gt=0, le=86_400)
    keys: int = Field(default=10**10, ge=1, le=10**10)


def analyze_url(url: str, wish: Wish, *, as_json: bool) -> None:
    """Walk, and print what was seen; exit 130 if it was interrupted."""
    _refuse_file(url)
    try:
        args = _Patient(
            mode=wish.mode, pace=wish.pace, every_key=wish.every_key, seconds=wish.seconds,
            resume=wish.resume,
        )  # fmt: skip
    except ValidationError:
        raise failure(
            "--resume: not what an analysis that was stopped has printed", code=2
        ) from None
    if wish.resume and wish.mode == "sampled":
        raise failure("--resume: only an exact walk goes on", code=2)
    target = target_of(settings_or_exit(), url, None)
    if wish.resume and _is_cluster(target):
        raise failure("--resume: name the node whose walk goes on: redis://HOST:PORT", code=2)
    seen, interrupted = asyncio.run(_analyzed(target, args, wish))
    found = [one for one in seen if isinstance(one, Analysis)]
    missed = [_worded(one) for one in seen if isinstance(one, NotMeasured)]
    if not found:
        nobody = "no primary holds slots"
        raise failure(f"{target.name}: {'; '.join(missed) or nobody}")
    for one in found:
        one.target = target.name
    if as_json:
        typer.echo(json.dumps(_document(target, found, missed), indent=2, ensure_ascii=False))
    else:
        for one in found:
            render.console().print(analysis_report(one))
        for because in missed:
            typer.echo(f"redis-oncall: {because}", err=True)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _document(target: Target, found: list[Analysis], missed: list[str]) -> dict[str, Any]:
    """Of one server what was seen of it; of a cluster that of a node of each shard."""
    if not _is_cluster(target):
        return found[0].as_json()
    nodes = [one.as_json() for one in found]
    return {"target": target.name, "nodes": nodes, "not_measured": missed}


def _is_cluster(target: Target) -> bool:
    return deployment_of(target.url).kind == "cluster"


def _worded(missed: NotMeasured) -> str:
    because = f"{missed.because}; {missed.remedy}" if missed.remedy else missed.because
    return f"{missed.not_measured}: {because}"


async def _analyzed(
    target: Target, args: BigKeysArguments, wish: Wish
) -> tuple[list[Analysis | NotMeasured], bool]:
    connection = await open_target(target)
    found: list[Analysis | NotMeasured] = []
    try:
        with _watching() as watch:
            for address in await _addresses(connection, target):
                if watch.is_over:
                    break
                found.append(await _at(connection, address, target, args, wish, watch))
            return found, watch.is_over
    except CommandFailure as lost:
        return [lost.as_not_measured()], False
    finally:
        await connection.close()


async def _addresses(connection: Connection, target: Target) -> list[str]:
    """Of a cluster a node of each shard; else the one that is connected. Raises CommandFailure."""
    if not _is_cluster(target):
        return [""]
    seen = await nodes(connection, NodesArguments())
    return walking_nodes(seen, target.walk_on)


async def _at(
    connection: Connection,
    address: str,
    target: Target,
    args: BigKeysArguments,
    wish: Wish,
    watch: Watch,
) -> Analysis | NotMeasured:
    """One node; of a cluster a failure of one does not keep the others."""
    if _is_cluster(target) and not address:
        return NotMeasured(
            not_measured="the keys of one shard",
            because="none of its replicas is well, and its primary may not be walked on",
            failure="refused",
            remedy="mend a replica, or set walk_on: prefer_replica",
        )
    try:
        if _is_cluster(target):
            return await _looked(await connection.at(address), args, wish, watch)
        walker = Walker(connection, target.walk_on)
        return await _looked(await walker.connection_for(READS["bigkeys"]), args, wish, watch)
    except CommandFailure as lost:
        return lost.as_not_measured()


async def _looked(
    connection: Connection, args: BigKeysArguments, wish: Wish, watch: Watch
) -> Analysis | NotMeasured:
    # First: before 7.2 what reads lengths makes every key look used.
    hot_args = HotKeysArguments(keys=200_000, in_use=wish.hot)
    hot = await hot_keys(connection, hot_args)
    keys = await bigkeys(connection, args)
    if not isinstance(keys, BigKeys):
        return keys
    found = Analysis(node=connection.node, taken_at=connection.now(), keys=keys, hot_keys=hot)
    if watch.is_over:
        return found
    try:
        found.encodings = await encodings(
            connection, EncodingsArguments(keys=10_000, lengths=wish.lengths)
        )
    except CommandFailure as lost:  # what was seen is kept
        found.remarks.append(str(lost))
    return found


@contextlib.contextmanager
def _watching() -> Iterator[Watch]:
    """Progress on a terminal; the first Ctrl-C ends the walk, the second everything."""
    err = render.console(stderr=True)
    columns = (
        TextColumn("{task.fields[seen]} keys"), BarColumn(24), TaskProgressColumn(),
        TextColumn("{task.fields[left]}"),
    )  # fmt: skip
    with Bar(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=1.0, seen="0", left="")

        def tell(progress: Progress) -> None:
            bar.update(
                task, completed=progress.coverage, seen=f"{progress.seen:,}", left=progress.left
            )

        watch = Watch(tell)
        loop, walking = asyncio.get_running_loop(), asyncio.current_task()

        def interrupted() -> None:
            if watch.is_over and walking is not None:
                walking.cancel()
            watch.is_over = True

        loop.add_signal_handler(signal.SIGINT, interrupted)
        try:
            with watched(watch):
                yield watch
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        finally:
            loop.remove_signal_handler(signal.SIGINT)


def _refuse_file(name: str) -> None:
    """An RDB file, which nobody's maintained parser reads (tools/README.md)."""
    path = Path(name)
    try:
        with path.open("rb") as file:
            is_rdb = file.read(6).startswith(_RDB)
    except (OSError, ValueError):
        return
    if is_rdb or path.suffix == ".rdb":
        raise failure(
            f"{name}: RDB files are not read: no maintained parser reads all that current servers "
            "write. Start a server of your own with it (--dbfilename) and analyze that",
            code=2,
        )
