"""What `doctor` tries for real: the database, the queue, the key and the model."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import text

from agent.endpoint import Endpoint
from agent.retrying import EndpointError
from api.auditing import keyring
from api.cli.finding import Finding
from api.keys import KeyUnusable
from api.queue import IN_MEMORY
from api.reasoning import model_settings
from api.settings import Settings
from api.store import trail
from api.store.database import Database, database_url
from api.unusable import FAILURES, advice, because

T = TypeVar("T")
SECONDS = 5.0
"""How long each is waited for."""
_NOT_YET = "is not there yet: the first start makes it"
_SILENT = f"no answer within {SECONDS:.0f} s"
_KEY_REFUSED = (401, 403)
_OTHER_NAME = (400, 422)
"""What an endpoint says that knows the limit of an answer by its older name only."""


async def ask(settings: Settings, what: Callable[[Database], Awaitable[T]]) -> T | None:
    """None where the database is not there yet: asking must not make it.

    Raises TimeoutError, and what the database raises.
    """
    url = database_url(settings.database_url.get_secret_value())
    if url.get_backend_name() == "sqlite" and not _has_content(Path(url.database or "")):
        return None
    database = Database(url)
    try:
        async with asyncio.timeout(SECONDS):
            return await what(database)
    finally:
        await database.close()


def _has_content(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


async def database_of(settings: Settings) -> Finding:
    """Whether it answers, and takes writes; nothing is written."""
    shown = settings.shown_database
    try:
        read_only = await ask(settings, _only_reads)
    except (TimeoutError, *FAILURES) as error:
        why = _SILENT if isinstance(error, TimeoutError) else because(error, settings)
        return Finding("database", "missing", f"{shown}: {why}; {advice(settings)}")
    if read_only is None:
        return Finding("database", "warning", f"{shown} {_NOT_YET}")
    if read_only:
        return Finding("database", "missing", f"{shown} only reads; {advice(settings)}")
    return Finding("database", "ok", shown)


async def _only_reads(database: Database) -> bool:
    async with database.reading() as session:
        if database.is_sqlite:
            await session.execute(text("SELECT count(*) FROM sqlite_master"))
            return False
        return bool(await session.scalar(text("SHOW transaction_read_only")) == "on")


async def queue_of(settings: Settings) -> Finding:
    """Whether its server answers."""
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    shown, url = settings.shown_queue, settings.queue.get_secret_value()
    if url.startswith(IN_MEMORY):
        return Finding("queue", "ok", shown)
    try:
        async with asyncio.timeout(SECONDS), Redis.from_url(url) as client:
            await client.ping()
    except (RedisError, OSError, TimeoutError) as error:
        why = f"{type(error).__name__}; see that the server is up and that REDIS_ONCALL_QUEUE has"
        says = f"{shown}: {why} its host, port, user and password"
        return Finding("queue", "missing", says)
    return Finding("queue", "ok", shown)


async def key_of(settings: Settings, *, database_answers: bool) -> Finding:
    """Whether it is there, and the one that the audit trail goes on with; none is made."""
    path = settings.data_folder / "key"
    shown = "REDIS_ONCALL_KEY" if settings.key else str(path)
    trails = await _key_of_the_trail(settings) if database_answers else None
    if settings.key is None and not path.exists():
        if trails is None:
            return Finding("key", "warning", f"{shown} {_NOT_YET}")
        says = f"{shown} is gone; put it back, or set REDIS_ONCALL_KEY: the audit trail needs it"
        return Finding("key", "missing", says)
    try:
        keys = await asyncio.to_thread(keyring, settings)
    except KeyUnusable as unusable:
        return Finding("key", "missing", str(unusable))
    if trails is not None and keys.find(trails) is None:
        says = "is another than the audit trail's; give that one as REDIS_ONCALL_PREVIOUS_KEYS"
        return Finding("key", "missing", f"{shown} {says}")
    return Finding("key", "ok", shown)


async def _key_of_the_trail(settings: Settings) -> str | None:
    async def asked(database: Database) -> str | None:
        async with database.reading() as session:
            head = await trail.head_of(session)
        return head.key_id if head else None

    try:
        return await ask(settings, asked)
    except (TimeoutError, *FAILURES):
        return None  # there are no tables yet, or an earlier version's


async def model_answers(settings: Settings) -> tuple[bool, str]:
    """Whether the model answers one word, and how quickly, or why not. It costs a few tokens."""
    endpoint = Endpoint(model_settings(settings))
    began = time.monotonic()
    try:
        async with asyncio.timeout(SECONDS):
            await _one_token(endpoint, settings.openai_model)
    except TimeoutError:
        return False, f"{_SILENT}; see OPENAI_BASE_URL"
    except EndpointError as error:
        if error.status in _KEY_REFUSED:
            return False, f"{error.words}: see OPENAI_API_KEY"
        kind = type(error.__cause__ or error).__name__
        return False, f"{error.words} ({kind}): see OPENAI_BASE_URL and OPENAI_MODEL"
    finally:
        await endpoint.close()
    return True, f"answered in {time.monotonic() - began:.1f} s"


async def _one_token(endpoint: Endpoint, model: str) -> None:
    question = {"model": model, "messages": [{"role": "user", "content": "Say yes."}]}
    try:
        await endpoint.send(question | {"max_completion_tokens": 1})
    except EndpointError as error:
        if error.status not in _OTHER_NAME:
            raise
        await endpoint.send(question | {"max_tokens": 1})
