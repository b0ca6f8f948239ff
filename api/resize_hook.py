"""Ordering a resize the user's own way: a command or a signed webhook, called once, bounded.

What a hook promises: exit code 0 or a 2xx means that the size is ordered; another exit code or a
4xx, that nothing is. Anything else (a time-out, a signal, a lost answer, 409, 429, 5xx) leaves it
open, and the server's own limit decides. An order with an idempotency key that was seen before is
the same order again. A command that goes on in the background has to detach itself.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2

from agent.redaction import redact
from api.settings import Settings
from tools.connection import CommandFailure
from tools.reading import FailureKind, printable
from tools.remedies.operation import ResizeHook

MOST_BYTES = 64 * 1024
LONGEST_SAID = 500
LAST_WORDS_SECONDS = 1.0
NOTHING_ORDERED = frozenset(range(300, 500)) - {408, 409, 425, 429}
"""Of HTTP. A redirect is not followed: whoever sends one did not take the order."""
TIMESTAMP, SIGNATURE = "X-Redis-Oncall-Timestamp", "X-Redis-Oncall-Signature"
IDEMPOTENCY = "Idempotency-Key"


@dataclass(frozen=True)
class _Hook:
    shown: str
    wait_seconds: float
    undoes: bool
    keeps_data: bool
    answer_seconds: float
    target: str
    place: Callable[[bytes, str], Awaitable[str]] = field(repr=False)

    async def __call__(self, order: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(order | {"target": self.target}, sort_keys=True).encode()
        try:
            async with asyncio.timeout(self.answer_seconds):
                said = await self.place(body, str(order["idempotency_key"]))
        except TimeoutError:
            raise self._failure(
                "timeout", f"no answer within {self.answer_seconds:.0f} s"
            ) from None
        except _Refused as refused:
            raise self._failure("refused", f"nothing was ordered: {refused}") from None
        except _Unknown as unknown:
            raise self._failure("error", f"whether it ordered is not known: {unknown}") from None
        return {"hook": "ordered", "said": said}

    def _failure(self, kind: FailureKind, failed: str) -> CommandFailure:
        return CommandFailure(kind, f"order the resize ({self.shown})", failed)


class _Refused(Exception):
    """Nothing was ordered."""


class _Unknown(Exception):
    """Nobody knows."""


@dataclass(frozen=True)
class Terms:
    """What a hook is allowed to take, and able to do."""

    target: str
    answer_seconds: float
    wait_seconds: float
    keeps_data: bool = False
    undoes: bool = False


def resize_hook_of(settings: Settings, target: str) -> ResizeHook | None:
    """The hook of a target, if one is configured."""
    entry = next((t.resize_hook for t in settings.config.targets if t.name == target), None)
    if entry is None:
        return None
    terms = Terms(
        target,
        entry.answer.total_seconds(),
        entry.wait.total_seconds(),
        keeps_data=entry.keeps_data,
        undoes=entry.undo,
    )
    if entry.url is not None and entry.secret is not None:
        return webhook(entry.url.get_secret_value(), entry.secret.get_secret_value(), terms)
    own = {name: value.get_secret_value() for name, value in entry.environment.items()}
    return command_hook(entry.command or [], {"PATH": settings.path} | own, terms)


def command_hook(
    command: Sequence[str], environment: Mapping[str, str], terms: Terms
) -> ResizeHook:
    """A program without a shell: the order on its standard input, and nothing of ours around it."""

    async def place(body: bytes, _: str) -> str:
        return await _run(command, environment, body)

    # Its arguments may hold a secret.
    return _hook(f"command {printable(command[0].rpartition('/')[2], 80)}", terms, place)


def webhook(url: str, secret: str, terms: Terms) -> ResizeHook:
    """A POST of the order, signed; never sent twice."""

    async def place(body: bytes, key: str) -> str:
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            TIMESTAMP: timestamp,
            SIGNATURE: signature(secret, timestamp, body),
            IDEMPOTENCY: key,
        }
        return await _post(url, headers, body, terms.answer_seconds)

    return _hook(f"webhook on {printable(urlsplit(url).hostname or '?', 80)}", terms, place)


def _hook(shown: str, terms: Terms, place: Callable[[bytes, str], Awaitable[str]]) -> _Hook:
    return _Hook(
        shown,
        terms.wait_seconds,
        terms.undoes,
        terms.keeps_data,
        terms.answer_seconds,
        terms.target,
        place,
    )


async def _run(command: Sequence[str], environment: Mapping[str, str], body: bytes) -> str:
    # A pipe of our own: what the program leaves in the background may hold it open, and asyncio
    # would wait for that.
    reading, writing = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=writing,
            stderr=writing,
            env=dict(environment),
            cwd="/",
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        os.close(reading)
        raise _Refused(f"it could not be started ({type(error).__name__})") from None
    finally:
        os.close(writing)
    async with _heard(reading) as said:
        try:
            await _tell(process, body)
            code = await process.wait()
        finally:
            if process.returncode is None:  # nobody waits for it any more
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        await asyncio.wait({said}, timeout=LAST_WORDS_SECONDS)
        words = _worded(said.result()) if said.done() else "nothing yet"
    if code > 0:
        raise _Refused(f"exit code {code}: {words}")
    if code < 0:
        raise _Unknown(f"it was ended by signal {-code}")
    return words


@contextlib.asynccontextmanager
async def _heard(descriptor: int) -> AsyncIterator[asyncio.Task[bytes]]:
    """What comes out of a pipe: its beginning; the rest is read, so that nobody waits, and lost."""
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(descriptor, "rb")
    )

    async def listen() -> bytes:
        kept = b""
        while piece := await stream.read(MOST_BYTES):
            kept = (kept + piece)[:MOST_BYTES]
        return kept

    task = asyncio.create_task(listen())
    try:
        yield task
    finally:
        task.cancel()
        transport.close()


async def _tell(process: asyncio.subprocess.Process, body: bytes) -> None:
    if process.stdin is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it need not read the order
        process.stdin.write(body)
        await process.stdin.drain()
        process.stdin.close()
        await process.stdin.wait_closed()


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """`sha256=` and the HMAC of `<timestamp>.<body>`, hex."""
    text = timestamp.encode() + b"." + body
    return "sha256=" + hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


async def _post(url: str, headers: dict[str, str], body: bytes, seconds: float) -> str:
    try:
        async with (
            httpx2.AsyncClient(timeout=seconds, trust_env=False, follow_redirects=False) as client,
            client.stream("POST", url, content=body, headers=headers) as response,
        ):
            status, said = response.status_code, b""
            async for piece in response.aiter_bytes():
                said += piece
                if len(said) >= MOST_BYTES:
                    break
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.InvalidURL) as error:
        raise _Refused(f"it could not be reached ({type(error).__name__})") from None
    except httpx2.HTTPError as error:
        raise _Unknown(f"its answer was lost ({type(error).__name__})") from None
    if 200 <= status < 300:
        return _worded(said)
    if status in NOTHING_ORDERED:
        raise _Refused(f"HTTP {status}: {_worded(said)}")
    raise _Unknown(f"HTTP {status}: {_worded(said)}")


def _worded(said: bytes) -> str:
    """What a hook says is shown and kept: bounded, printable, redacted."""
    return redact(printable(said[: 4 * LONGEST_SAID].strip(), LONGEST_SAID))
