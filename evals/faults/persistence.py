"""Faults of snapshots and the append-only file, on real disks."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import ClassVar

import redis

from evals.faults.fault import Expected, Fault, Lab
from evals.faults.workload import MIB, Pipeline, text

_SETTABLE_DIRECTORY = ("--enable-protected-configs", "yes")
"""From 7.0 on CONFIG SET dir is refused by default; 6.2 does not know the parameter."""
_BLOCK = 32_000
_WRITERS = 60
"""At scale 1."""
_LONGEST_WRITER = 300
"""Seconds after which a disk writer ends by itself."""


def small_disk(lab: Lab, size: int) -> Path:
    """A file system of so many bytes, unmounted with the lab. Needs root."""
    path = Path(tempfile.mkdtemp(prefix="redis-oncall-disk-"))
    lab.stack.callback(shutil.rmtree, path, ignore_errors=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    subprocess.run(mount, check=True, capture_output=True)
    # Lazily: the server still has files open there.
    lab.stack.callback(subprocess.run, ["umount", "-l", str(path)], check=False)
    return path


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * _BLOCK)


class MisconfBgsaveFail(Fault):
    """Snapshots fail, and the server refuses writes because of it."""

    id = "misconf-bgsave-fail"
    alerts = ("RedisWritesFailing", "RedisSaveFailed", "RedisErrorsHigh")

    def arguments_for(self, build: str) -> tuple[str, ...]:
        """The directory has to be changed while it runs."""
        return () if build == "redis-6.2" else _SETTABLE_DIRECTORY

    def inject(self, lab: Lab) -> Expected:
        """A full disk, a directory that is gone, or one in which nothing can be made."""
        ways: tuple[Callable[[Lab], None], ...] = (_disk_full, _directory_gone, _not_writable)
        way = ways[lab.seed % 3]
        if way is _disk_full and os.geteuid() != 0:
            way = _directory_gone
        way(lab)
        lab.configure(save="900 1 300 10", maxmemory_policy="noeviction")
        lab.limit_at(lab.random.uniform(0.3, 0.6))
        lab.admin.bgsave()
        lab.until(
            lambda: lab.admin.info("persistence")["rdb_last_bgsave_status"] == "err",
            "a failed snapshot",
        )
        lab.act(10, _refresh(lab))
        return Expected(
            frozenset({self.id}),
            frozenset({("none", ""), ("host", "")}),
            alert=self.alert(lab, "critical"),
        )


def _refresh(lab: Lab) -> Callable[[Pipeline], object]:
    """Ordinary writes of the application."""
    random = Random(lab.random.getrandbits(32))
    prefix = lab.app.families[0].prefix
    return lambda pipe: pipe.set(f"{prefix}:last:{random.randrange(50)}", text(random, 300), ex=900)


def _disk_full(lab: Lab) -> None:
    disk = small_disk(lab, 2 * MIB)
    fill(disk / "core.1")
    lab.configure(dir=disk)


def _directory_gone(lab: Lab) -> None:
    path = Path(tempfile.mkdtemp(prefix="redis-oncall-data-"))
    lab.configure(dir=path)
    path.rmdir()


def _not_writable(lab: Lab) -> None:
    lab.configure(dir="/proc")  # not even root can make a file there


class AofWriteError(Fault):
    """The append-only file cannot be written: the disk is full."""

    id = "aof-write-error"
    root_only = True
    alerts = ("RedisWritesFailing", "RedisErrorsHigh")
    everyday: ClassVar[float] = 6

    def arguments_for(self, build: str) -> tuple[str, ...]:
        """The directory has to be changed while it runs."""
        return () if build == "redis-6.2" else _SETTABLE_DIRECTORY

    def inject(self, lab: Lab) -> Expected:
        """Append until a small disk is full."""
        random = lab.random
        lab.configure(
            dir=small_disk(lab, 2 * lab.used() + lab.megabytes(random.uniform(4, 8))),
            auto_aof_rewrite_percentage=0,
            appendfsync="everysec",
            appendonly="yes",
        )
        lab.until(lambda: _rewritten(lab), "the first append-only file")
        key = f"{lab.app.families[0].prefix}:last"
        payload = text(random, _BLOCK)

        def failed() -> bool:
            with contextlib.suppress(redis.ResponseError):  # MISCONF: what is waited for
                lab.admin.set(key, payload, ex=900)
            return str(lab.admin.info("persistence")["aof_last_write_status"]) == "err"

        lab.until(failed, "a failed append")
        lab.act(12, _refresh(lab))
        return Expected(
            frozenset({self.id}),
            frozenset({("none", ""), ("host", "")}),
            frozenset({"misconf-bgsave-fail"}),
            alert=self.alert(lab, "critical"),
        )


def _rewritten(lab: Lab) -> bool:
    disk = lab.admin.info("persistence")
    return bool(disk["aof_enabled"]) and not (
        disk["aof_rewrite_in_progress"] or disk["aof_rewrite_scheduled"]
    )


class AofRewriteLoop(Fault):
    """The append-only file is rewritten again and again: its threshold is tiny."""

    id = "aof-rewrite-loop"
    arguments = ("--appendonly", "yes")
    alerts = ("RedisDiskIoHigh", "RedisForksOften", "RedisLatencyHigh")
    everyday: ClassVar[float] = 6

    def inject(self, lab: Lab) -> Expected:
        """Overwrite a hundred keys while every per cent of growth starts a rewrite."""
        random = lab.random
        lab.configure(
            auto_aof_rewrite_percentage=random.choice([1, 2, 3]),
            auto_aof_rewrite_min_size=random.choice(["64kb", "256kb", "1mb"]),
            maxmemory_policy="noeviction",
        )
        lab.limit_at(random.uniform(0.3, 0.6))
        prefix, size = lab.app.spare[0], random.randint(4_000, 9_000)
        writer = Random(random.getrandbits(32))

        def step(pipe: Pipeline) -> None:
            pipe.set(f"{prefix}:{writer.randrange(100)}", text(writer, size), ex=3_600)

        for _ in range(2):
            lab.act(60, step)
        return Expected(
            frozenset({self.id}),
            frozenset(
                {("config", "auto-aof-rewrite-percentage"), ("config", "auto-aof-rewrite-min-size")}
            ),
            alert=self.alert(lab),
        )


class AofFsyncStall(Fault):
    """Every write waits for a disk that others keep busy."""

    id = "aof-fsync-stall"
    arguments = ("--appendonly", "yes", "--appendfsync", "always")
    alerts = ("RedisLatencyHigh",)

    def inject(self, lab: Lab) -> Expected:
        """Appendfsync always, beside processes that write and sync without a pause."""
        random = lab.random
        lab.configure(
            latency_monitor_threshold=random.choice([10, 20, 25]),
            auto_aof_rewrite_percentage=100,
            maxmemory_policy="noeviction",
        )
        lab.limit_at(random.uniform(0.3, 0.6))
        for number in range(int(_WRITERS * lab.scale)):
            _busy_disk(lab, lab.server.directory / f"segment.{number}")
        lab.act(30, _refresh(lab))
        return Expected(
            frozenset({self.id}),
            frozenset({("config", "appendfsync"), ("none", ""), ("host", "")}),
            alert=self.alert(lab),
        )


def _busy_disk(lab: Lab, path: Path) -> None:
    """A process that writes and syncs in a loop, ended with the lab."""
    loop = f"while :; do dd if=/dev/zero of={path} bs=4M count=4 oflag=dsync 2>/dev/null; done"
    writer = subprocess.Popen(["timeout", str(_LONGEST_WRITER), "sh", "-c", loop])

    def end() -> None:
        writer.terminate()
        writer.wait()

    lab.stack.callback(end)


PERSISTENCE_FAULTS: tuple[Fault, ...] = (
    MisconfBgsaveFail(), AofWriteError(), AofRewriteLoop(), AofFsyncStall(),
)  # fmt: skip
