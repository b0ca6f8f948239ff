"""One link to a server: what is sent goes out as it comes, replies are read in its order.

redis-py makes the connection: URL, TLS, credentials. Beyond that it makes several calls for each
command and each reply, which take longer than the server itself does, and a look at a million keys
is made of nothing else: here commands are packed and replies parsed in bulk, by hiredis, and more
may be sent while replies are still under way.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import hiredis
import redis.exceptions as errors
from redis._parsers.hiredis import NOT_ENOUGH_DATA, _AsyncHiredisParser
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tools.failures import ERROR_REPLIES
from tools.target_url import user_of, with_known_options

Argument = str | bytes | int | float
Command = Sequence[Argument]

CONNECT_SECONDS = 3.0
READ_SIZE = 64 * 1024


class LinkLost(Exception):
    """Replies that will not come: the error, and of which command the first was to be."""

    def __init__(self, error: Exception, place: int) -> None:
        super().__init__(str(error))
        self.error = error
        self.place = place


@dataclass
class _Sent:
    """Commands on their way, and the replies so far."""

    number: int
    answered: "asyncio.Future[list[object]]"
    replies: list[object] = field(default_factory=list)


class Link:
    """Not connected yet. `seconds`: how long a server may be silent that owes a reply."""

    def __init__(self, url: str, seconds: float) -> None:
        """Raises ValueError or TypeError, whose text may hold a piece of the password."""
        self.waited = 0.0
        """Seconds in which the server owed a reply."""
        self._seconds = seconds
        self._parser = _BulkParser()
        pool = ConnectionPool.from_url(
            with_known_options(url),
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=seconds,
            socket_connect_timeout=CONNECT_SECONDS,
            parser_class=lambda **_: self._parser,
            driver_info=None,
            maint_notifications_config=None,
        )
        make = cast(Callable[[], AbstractConnection], pool.make_connection)
        self._redis, self.user = make(), user_of(pool.connection_kwargs)
        self._sent: deque[_Sent] = deque()
        self._more = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        """Whether it was connected, and not lost or dropped since, as far as we know."""
        return bool(self._redis.is_connected)

    async def connect(self) -> None:
        """Connect and authenticate. Raises RedisError or OSError."""
        self._redis.socket_timeout = self._seconds
        await self._redis.connect()  # type: ignore[no-untyped-call]

    async def ask(self, *command: Argument) -> Any:
        """A reply, or the error that was replied; only before `begin`. Raises RedisError, OSError.

        redis-py takes some error replies for failures of the link and would close a good one.
        """
        await self._redis.send_command(*command)
        try:
            return await self._redis.read_response(disconnect_on_error=False)
        except ERROR_REPLIES as error:
            return error

    def begin(self) -> None:
        """From here on `send` may be called, by several at a time."""
        self._redis.socket_timeout = None  # we keep the time ourselves
        self._reading = asyncio.create_task(self._read_on())

    async def send(self, commands: Sequence[Command]) -> "asyncio.Future[list[object]]":
        """The replies to come, errors among them; LinkLost if they will not.

        Whoever does not wait for them, because it was cancelled, leaves nothing for others.
        """
        sent = _Sent(len(commands), asyncio.get_running_loop().create_future())
        content = packed(commands)
        self._sent.append(sent)
        self._more.set()
        try:
            async with asyncio.timeout(self._seconds):
                await self._redis.send_packed_command(content, check_health=False)
        except TimeoutError:
            await self._lose(self._silent())
        except (errors.RedisError, OSError) as error:
            await self._lose(error)
        except BaseException:
            sent.answered.cancel()
            raise
        return sent.answered

    async def drop(self) -> None:
        """Hang up. What is owed will not come."""
        await self._lose(errors.ConnectionError("the link was closed on our side"))

    async def _read_on(self) -> None:
        clock = asyncio.get_running_loop().time
        try:
            while True:
                while not self._sent:
                    self._more.clear()
                    await self._more.wait()
                first, began = self._sent[0], clock()
                async with asyncio.timeout(self._seconds) as silence:
                    await self._parser.read_into(
                        first.replies,
                        first.number,
                        heard=lambda: silence.reschedule(clock() + self._seconds),
                    )
                self.waited += clock() - began
                self._sent.popleft()
                if not first.answered.done():
                    first.answered.set_result(first.replies)
        except TimeoutError:
            self.waited += self._seconds
            await self._lose(self._silent())
        except (errors.RedisError, OSError) as error:
            await self._lose(error)

    def _silent(self) -> Exception:
        return errors.TimeoutError(f"Timeout: no answer in {self._seconds:g} s")

    async def _lose(self, error: Exception) -> None:
        owed, self._sent = self._sent, deque()
        if self._reading is not None and self._reading is not asyncio.current_task():
            self._reading.cancel()
        self._reading = None
        for sent in owed:
            if not sent.answered.done():
                sent.answered.set_exception(LinkLost(error, len(sent.replies)))
            # Those behind did not fail: the link did.
            if isinstance(error, errors.TimeoutError):
                error = errors.ConnectionError("the link was lost: no answer to what came before")
        await self._redis.disconnect(nowait=True)


def packed(commands: Sequence[Command]) -> list[bytes]:
    """What is sent for them."""
    pack: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command
    return [b"".join([pack(tuple(command)) for command in commands])]


class _BulkParser(_AsyncHiredisParser):
    """redis-py's parser, which can also read many replies at once."""

    def __init__(self) -> None:
        super().__init__(socket_read_size=READ_SIZE)

    async def read_into(
        self, replies: list[object], number: int, heard: Callable[[], None]
    ) -> None:
        """Append replies, errors among them, until there are so many. Raises if the link is lost.

        `heard` is called whenever another reply, or several, have come.
        """
        gets = cast("hiredis.Reader", self._reader).gets
        while True:
            had = len(replies)
            for _ in range(number - had):
                reply = gets()
                if reply is NOT_ENOUGH_DATA:
                    break
                replies.append(reply)
            if len(replies) == number:
                return
            if len(replies) > had:
                heard()
            await self.read_from_socket()  # type: ignore[no-untyped-call]
