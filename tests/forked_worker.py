"""The worker beside a forked `serve` is forked as well, not started by another interpreter.

Not by `serve` itself: where threads run is no place to fork. Before it begins it forks a process
that stays as it is, and forks when it is told. The worker is a child of `serve` all the same, has
the standard input that nudges it, and ends with it.
"""

import asyncio
import ctypes
import json
import os
import random
import signal
import socket
import sys
import traceback
from functools import partialmethod
from typing import Any, NoReturn

from api.own_worker import OwnWorker

_SET_CHILD_SUBREAPER = 36
"""prctl(2): whose parent ends is from then on a child of the process that asked for this."""
_MOST_TOLD = 100_000
"""Bytes of an environment."""


def fork_workers() -> None:
    """From now on in this process, which has one thread still."""
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if os.fork() == 0:
        ours.close()
        _fork_when_told(theirs)
    theirs.close()
    OwnWorker.start = partialmethod(_start, ours)  # type: ignore[method-assign,assignment]


def _fork_when_told(link: socket.socket) -> NoReturn:
    while True:
        told, (*pipe,), _, _ = socket.recv_fds(link, _MOST_TOLD, 1)
        if not told:
            os._exit(0)
        if (between := os.fork()) == 0:
            if (worker := os.fork()) == 0:
                link.close()
                _work(json.loads(told), pipe[0])
            link.send(str(worker).encode())
            os._exit(0)
        os.close(pipe[0])
        os.waitpid(between, 0)
        link.send(b"it is yours")


def _work(environment: dict[str, str], pipe: int) -> NoReturn:
    from api.cli.main import app

    code: Any = 1
    try:
        os.setsid()
        sys.stdin = os.fdopen(pipe)
        os.environ.clear()
        os.environ.update(environment)
        random.seed()
        app(["worker", "--nudged"])
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:  # noqa: BLE001 - told below, as Python does where nobody catches it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 1)


class _Worker:
    """Of `asyncio.subprocess.Process` what `OwnWorker` uses of it."""

    def __init__(self, pid: int, stdin: asyncio.StreamWriter) -> None:
        self.pid, self.stdin = pid, stdin
        self.returncode: int | None = None
        self._ended = asyncio.Event()
        handle = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(handle, self._reap, handle)

    def _reap(self, handle: int) -> None:
        asyncio.get_running_loop().remove_reader(handle)
        os.close(handle)
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._ended.set()

    async def wait(self) -> int | None:
        await self._ended.wait()
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)


async def _start(worker: OwnWorker, link: socket.socket) -> None:
    reader, writer = os.pipe()
    socket.send_fds(link, [json.dumps(dict(os.environ)).encode()], [reader])
    os.close(reader)
    pid = int(link.recv(_MOST_TOLD))
    assert link.recv(_MOST_TOLD)
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(writer, "wb")
    )
    stdin = asyncio.StreamWriter(transport, protocol, None, loop)
    worker.process = _Worker(pid, stdin)  # type: ignore[assignment]
