"""Faults that make commands wait."""

import contextlib
import re
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from random import Random
from typing import Any, ClassVar

import redis

from evals.faults.fault import Expected, Fault, Lab
from evals.faults.slow_client import encoded
from evals.faults.workload import MIB, Pipeline, connect, text
from evals.pouring import pour
from tools.recording_file import Recording

_BATCH = 1_000
SETTLING_SECONDS = 0.4
"""From the injection until the script starts: the clients of the application connect first."""
_LONGEST = 300
"""Seconds after which a load generator ends by itself."""
_LETS_GO_EACH = 4
"""Steps of the job that replaces large sets: ten go in a second while there are some."""
_MADE_EACH, _SHORT = 2_000, 250
"""Members it adds in a step, and in one command."""
_TRIALS = 3
_MOST_TIMES = 4.0
"""A fast machine gets larger sets, but no more than its memory allows."""


class OnCommand(Fault):
    """A client walks over a large collection, or over all keys, again and again."""

    id = "on-command"
    alerts = ("RedisLatencyHigh", "RedisCpuHigh")
    recordings = 4

    def inject(self, lab: Lab) -> Expected:
        """KEYS, SMEMBERS, SORT or a script that does the same, a few times a second."""
        random = lab.random
        name = lab.app.client_name()
        key = f"{lab.app.families[0].prefix}:{random.choice(['members', 'backlog', 'online'])}"
        many = int(random.randint(350_000, 450_000) * lab.scale)
        ways = {
            "KEYS": ("KEYS", f"{lab.app.spare[0]}:*:{random.randrange(100)}"),
            "SMEMBERS": ("SMEMBERS", key),
            "SORT": ("SORT", key, "LIMIT", "0", "10"),
            "EVAL": ("EVAL", _COUNTING, "1", key),
        }
        way = list(ways)[lab.seed % len(ways)]
        for start in range(0, many, _BATCH):
            numbers = range(start, min(many, start + _BATCH))
            if way == "KEYS":
                lab.admin.mset({f"{lab.app.spare[0]}:{n}:{n % 100}": n % 7 for n in numbers})
            elif way == "SORT":
                lab.admin.rpush(key, *(random.getrandbits(32) for _ in numbers))
            else:
                lab.admin.sadd(key, *(random.getrandbits(40) for _ in numbers))
        lab.configure(maxmemory_policy="noeviction")
        lab.limit_at(random.uniform(0.3, 0.6))
        command: tuple[Any, ...] = ways[way]

        def step(pipe: Pipeline) -> None:
            pipe.execute_command(*command)

        lab.act(3, step, name)
        return Expected(
            frozenset({self.id}),
            frozenset({("client", name), ("key", key)}),
            alert=self.alert(lab),
        )


_COUNTING = (
    "local n = 0 for _, m in ipairs(redis.call('SMEMBERS', KEYS[1])) do"
    " if m % 7 == 0 then n = n + 1 end end return n"
)


class HotKey(Fault):
    """One key is read so often that it keeps the server's core busy."""

    id = "hot-key"
    alerts = ("RedisCpuHigh", "RedisLatencyHigh")
    everyday: ClassVar[float] = 8

    def inject(self, lab: Lab) -> Expected:
        """Clients that ask for the same key without a pause."""
        random = lab.random
        lab.configure(maxmemory_policy=random.choice(["allkeys-lfu", "volatile-lfu"]))
        lab.limit_at(random.uniform(0.3, 0.6))
        key = f"{lab.app.spare[0]}:{random.choice(['flags', 'home', 'menu', 'rates'])}"
        lab.admin.set(key, text(random, random.randint(2_000, 6_000)))
        client = connect(lab.server.port)
        for _ in range(120):  # what days of such traffic have done to the counter
            pipe = client.pipeline(transaction=False)
            for _ in range(_BATCH):
                pipe.execute_command("STRLEN", key)  # type: ignore[no-untyped-call]
            pipe.execute()
        client.close()
        for _ in range(max(1, int(5 * lab.scale))):
            _load(lab, encoded("GET", key), lab.app.client_name())
        return Expected(frozenset({self.id}), frozenset({("key", key)}), alert=self.alert(lab))


_LOADER = """
import socket, sys, time
port, request, name, seconds = sys.argv[1:]
request = bytes.fromhex(request)
link = socket.create_connection(("127.0.0.1", int(port)))
link.sendall(f"CLIENT SETNAME {name}\\r\\n".encode())
link.recv(64)
buffer, batch, end = bytearray(1 << 20), request * 50, time.monotonic() + float(seconds)
link.sendall(request)
reply = link.recv(1 << 16)
while len(reply) < int(reply[1:reply.index(b"\\r")]) + reply.index(b"\\r") + 4:
    reply += link.recv(1 << 16)
whole = 50 * len(reply)
while time.monotonic() < end:
    link.sendall(batch)
    left = whole
    while left > 0:
        left -= link.recv_into(buffer, min(left, len(buffer))) or whole
"""


def _load(lab: Lab, request: bytes, name: str) -> None:
    """A process that sends this request without a pause, until the lab ends."""
    arguments = [str(lab.server.port), request.hex(), name, str(_LONGEST)]
    loader = subprocess.Popen([sys.executable, "-c", _LOADER, *arguments])

    def end() -> None:
        loader.terminate()
        loader.wait()

    lab.stack.callback(end)


class BigkeyDeleteStall(Fault):
    """Large keys are deleted, or expire, on the main thread."""

    id = "bigkey-delete-stall"
    alerts = ("RedisLatencyHigh",)
    everyday: ClassVar[float] = 6

    def inject(self, lab: Lab) -> Expected:
        """A batch job replaces its large sets one after another."""
        random = lab.random
        expires = lab.seed % 3 == 0
        lab.configure(
            lazyfree_lazy_user_del="no",
            lazyfree_lazy_expire="no",
            maxmemory_policy="noeviction",
            latency_monitor_threshold=lab.random.choice([20, 25, 50]),
        )
        prefix = lab.app.spare[0]
        # An expiry shows as a latency event of 50 ms and more, a DEL in the slow log from 10 ms on.
        members = random.randint(420_000, 480_000) if expires else random.randint(280_000, 320_000)
        names = [f"{prefix}:{n}" for n in random.sample(range(1_000, 9_000), 3 if expires else 6)]
        # Far more than shows: what was timed while the machine was busy is over sooner later on.
        members = _enough_to_stall(lab, names[0], members, 0.12 if expires else 0.06)
        for name in names:
            _large_set(lab, name, members)
        lab.limit_at(random.uniform(0.4, 0.6))
        client = lab.app.client_name()
        lab.act(40, _Replacing(names, members, expires=expires).step, client)
        setting = "lazyfree-lazy-expire" if expires else "lazyfree-lazy-user-del"
        others = {("client", client), *(("key", n) for n in names), ("prefix", f"{prefix}:")}
        return Expected(
            frozenset({self.id}),
            frozenset({("config", setting), *others}),
            alert=self.alert(lab),
        )


def _large_set(lab: Lab, name: str, members: int) -> None:
    batches = range(0, members, 10 * _BATCH)
    ends = (min(members, start + 10 * _BATCH) for start in batches)
    parts = (range(start, end) for start, end in zip(batches, ends, strict=True))
    pour(lab.server.port, (("SADD", name, *(f"m{n}" for n in part)) for part in parts))


def _enough_to_stall(lab: Lab, name: str, members: int, seconds: float) -> int:
    """How many members it takes here: what stalls a slow machine is nothing to a fast one."""
    took = []
    for _ in range(_TRIALS):
        _large_set(lab, name, members)
        started = time.perf_counter()
        lab.admin.delete(name)
        took.append(time.perf_counter() - started)
    return int(members * min(_MOST_TIMES, max(1.0, seconds / min(took))))


class _Replacing:
    """The job: lets its sets go one after another, then makes the next and lets that go."""

    def __init__(self, names: list[str], members: int, *, expires: bool) -> None:
        self._names, self._members, self._expires = names, members, expires
        self._ready, self._made, self._steps = len(names), 0, 0

    def step(self, pipe: Pipeline) -> None:
        """One pipeline of it, whose commands are too short for any slow log."""
        self._steps += 1
        if self._ready and self._steps % _LETS_GO_EACH == 0:
            self._ready -= 1
            self._let_go(pipe, self._names[self._ready])
        elif not self._ready and self._made < self._members:
            for start in range(self._made, self._made + _MADE_EACH, _SHORT):
                pipe.sadd(self._names[0], *(f"m{n}" for n in range(start, start + _SHORT)))
            self._made += _MADE_EACH
        elif not self._ready:
            self._made = 0
            self._let_go(pipe, self._names[0])

    def _let_go(self, pipe: Pipeline, name: str) -> None:
        if self._expires:
            pipe.pexpire(name, 1)
        else:
            pipe.delete(name)


class BusyScript(Fault):
    """A script loops, and everybody else is refused."""

    id = "busy-script"
    alerts = ("RedisDown", "RedisErrorsHigh", "RedisLatencyHigh")

    def inject(self, lab: Lab) -> Expected:
        """EVAL of an endless loop that writes nothing; it is killed when the lab ends."""
        limit = "lua_time_limit" if lab.server.build == "redis-6.2" else "busy_reply_threshold"
        lab.configure(**{limit: 200})
        lab.limit_at(lab.random.uniform(0.3, 0.7))
        name = lab.app.client_name()
        port = lab.server.port
        stop = threading.Event()
        looping = threading.Thread(target=_loop, args=(port, name, SETTLING_SECONDS, stop))
        lab.stack.callback(looping.join, 10)
        lab.stack.callback(_kill_script, port)
        lab.stack.callback(stop.set)
        looping.start()
        return Expected(
            frozenset({self.id}),
            frozenset({("client", name), ("none", "")}),
            alert=self.alert(lab, "critical"),
        )


def _loop(port: int, name: str, delay: float, stop: threading.Event) -> None:
    """Once the traffic has warmed up, run the script; it ends when it is killed."""
    if stop.wait(delay):
        return
    link = socket.create_connection(("127.0.0.1", port), 5)
    with contextlib.closing(link):
        link.sendall(encoded("CLIENT", "SETNAME", name))
        link.sendall(encoded("EVAL", "while true do end", "0"))
        while not stop.wait(0.1):
            pass


def _kill_script(port: int) -> None:
    """SCRIPT KILL until nothing runs: a fresh link for each try, this server may be busy."""
    for _ in range(20):
        client = connect(port)
        try:
            client.execute_command("SCRIPT", "KILL")  # type: ignore[no-untyped-call]
        except redis.ResponseError as error:
            if "NOTBUSY" in str(error):
                return
        except redis.RedisError:
            pass
        finally:
            client.close()
        time.sleep(0.1)


class ThpOrSwap(Fault):
    """The host stalls the server: swapped memory, or transparent huge pages.

    Neither can be had here without changing the machine. A real recording of a healthy server gets
    the numbers that the documents give for it.
    """

    id = "thp-or-swap"
    fixture = (
        "redis.io/docs/latest/operate/oss_and_stack/management/optimization/latency: swapping, "
        "fork time with transparent huge pages; LATENCY DOCTOR's advice, redis/src/latency.c"
    )
    alerts = ("RedisLatencyHigh",)
    everyday: ClassVar[float] = 125
    milliseconds: ClassVar[tuple[int, int]] = (180, 480)
    """How long a fork takes, from and to."""

    def inject(self, lab: Lab) -> Expected:
        """A healthy server; `amend` does the rest."""
        lab.configure(maxmemory=0)
        self._random = Random(lab.random.getrandbits(32))
        self._swap = lab.seed % 2 == 0
        return Expected(frozenset({self.id}), alert=self.alert(lab))

    def amend(self, recording: Recording) -> None:
        """Most of it swapped out; or forks that take long, and the doctor's word for it."""
        if self._swap:
            share = self._random.uniform(0.15, 0.25)
            changed = partial(_swapped, share=share)
        else:
            fork = self._random.randint(*self.milliseconds)
            changed = partial(_forked, milliseconds=fork)
            said = _doctor(fork)
            frames = recording.frames.get((b"LATENCY", b"DOCTOR"), [])
            frames[:] = [(at, said) for at, _ in frames]
        for words, frames in recording.frames.items():
            if words[0] == b"INFO":
                frames[:] = [
                    (at, changed(outcome) if isinstance(outcome, bytes) else outcome)
                    for at, outcome in frames
                ]


def _swapped(info: bytes, share: float) -> bytes:
    """The same INFO with this share of the memory in use resident."""
    found = re.search(rb"(?m)^used_memory:(\d+)", info)
    if found is None:
        return info
    used = int(found[1])
    resident = int(used * share)
    return _with(
        info,
        used_memory_rss=resident,
        used_memory_rss_human=f"{resident / MIB:.2f}M",
        mem_fragmentation_ratio=f"{share:.2f}",
        mem_fragmentation_bytes=resident - used,
        allocator_resident=resident,
    )


def _forked(info: bytes, milliseconds: int) -> bytes:
    """The same INFO after forks that took so long."""
    return _with(info, latest_fork_usec=milliseconds * 1_000, total_forks=41)


def _with(info: bytes, **fields: object) -> bytes:
    for name, value in fields.items():
        line = f"{name}:{value}".encode()
        info = re.sub(rf"(?m)^{name}:[^\r\n]*".encode(), line, info)
    return info


def _doctor(fork: int) -> bytes:
    """What LATENCY DOCTOR prints where the process has anonymous huge pages (latency.c)."""
    return (
        "Dave, I have observed latency spikes in this instance. You don't mind talking about it, "
        f"do you Dave?\n\n1. fork: 41 latency spikes (average {fork}ms, mean deviation 9ms, period "
        f"61.00 sec). Worst all time event {fork + 20}ms.\n\nI have a few advices for you:\n\n"
        "- I detected a non zero amount of anonymous huge pages used by your process. This "
        "creates very serious latency events in different conditions, especially when Redis is "
        "persisting on disk.\n"
    ).encode()


LATENCY_FAULTS: tuple[Fault, ...] = (
    OnCommand(), HotKey(), BigkeyDeleteStall(), BusyScript(), ThpOrSwap(),
)  # fmt: skip
