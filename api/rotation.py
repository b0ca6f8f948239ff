"""Tokens and sources are read again while the service runs: on SIGHUP, or when the file changes.

So they are when a file changes that it refers to (`${file:…}`). A file that cannot be used changes
nothing, and says so loudly. Whatever else the file says waits for a restart.
"""

import asyncio
import contextlib
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from api.config import Config, TokenEntry
from api.secret_files import FileVersion, version_of
from api.settings import Settings, SettingsError, load_config, secrets_again
from api.source_config import SourceEntry
from api.store import audit
from api.store.database import Database

LOOK_SECONDS = 5.0
"""How often the file is looked at. What has changed is read once it is the same at two looks, so
that a file which is being written is not taken for a short one."""
MOST_UNWRITTEN = 100
"""Rows of the audit trail that wait for the database; of more, the oldest are in the log only."""
log = structlog.get_logger(__name__)


@asynccontextmanager
async def rotating(settings: Settings, database: Database) -> AsyncIterator["Rotation"]:
    """Until the block ends; without a file there is nothing to read, and SIGHUP ends nothing."""
    rotation = Rotation(settings, database)
    loop = asyncio.get_running_loop()
    handled = False
    with contextlib.suppress(ValueError, RuntimeError):  # not the main thread: the file is watched
        loop.add_signal_handler(signal.SIGHUP, rotation.hang_up)
        handled = True
    watching = [asyncio.create_task(rotation.forever())] if settings.config_path else []
    try:
        yield rotation
    finally:
        if handled:
            loop.remove_signal_handler(signal.SIGHUP)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)


@dataclass
class Rotation:
    """Whoever is in the file is let in; changed under the eyes of the audit trail."""

    settings: Settings
    database: Database
    every: float = field(default_factory=lambda: LOOK_SECONDS)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    hand_on: Callable[[], None] | None = None
    """To the worker beside this process, which nobody sends a signal."""

    def __post_init__(self) -> None:
        self._path = Path(self.settings.config_path).expanduser()
        self._unwritten: deque[tuple[str, dict[str, Any]]] = deque(maxlen=MOST_UNWRITTEN)
        # What was read before us may have changed since: once more.
        self._read: dict[Path, FileVersion] = {self._path: None}
        self._last: dict[Path, FileVersion] = {}

    def hang_up(self) -> None:
        """Somebody has changed the file and says so."""
        self.asked.set()
        if self.hand_on is not None:
            self.hand_on()

    async def forever(self) -> None:
        """Look, until cancelled; whatever fails is tried again."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.asked.wait(), self.every)
            try:
                await self.look()
            except Exception:
                log.exception("tokens_not_looked_at")

    async def look(self) -> None:
        """Read the file if somebody asked, or if it has changed and settled."""
        version = await asyncio.to_thread(_versions, list(self._read))
        settled, self._last = version == self._last, version
        if self.asked.is_set() or (settled and version != self._read):
            self.asked.clear()
            self._read = version
            await self._read_again()
        await self._write_down()

    async def _read_again(self) -> None:
        secrets = secrets_again(self.settings)
        try:
            config = await asyncio.to_thread(load_config, secrets)
        except SettingsError as unusable:
            return self._refuse(str(unusable))
        finally:
            self._read = {self._path: self._read[self._path]} | secrets.read
        nobody_is_left = not config.tokens and not config.sources
        if (self.settings.tokens and not config.tokens) or (
            self.settings.sources and nobody_is_left
        ):
            return self._refuse(
                f"{self._path}: it has no tokens any more, which would open the service to "
                "everybody on this machine; stop the service to run it so"
            )
        changes = _changes(
            [*self.settings.tokens, *self.settings.sources], [*config.tokens, *config.sources]
        )
        self.settings.let_in(config)
        if changes:
            log.warning("tokens_read", **changes)
            self._unwritten.append(("tokens", changes))
        if _rest(config) != _rest(self.settings.config):
            log.warning("restart_needed", because="more than tokens and sources has changed")
        return None

    def _refuse(self, because: str) -> None:
        log.error("tokens_refused", because=because, still_let_in=len(self.settings.tokens))
        self._unwritten.append(("tokens_refused", {"because": because}))

    async def _write_down(self) -> None:
        """What is revoked is revoked at once, also while the database is away."""
        while self._unwritten:
            what, detail = self._unwritten[0]
            async with self.database.writing() as session:
                await audit.note(session, audit.service("service"), what, **detail)
            self._unwritten.popleft()


def _versions(files: Sequence[Path]) -> dict[Path, FileVersion]:
    return {path: version_of(path) for path in files}


def _changes(
    before: Sequence[TokenEntry | SourceEntry], after: Sequence[TokenEntry | SourceEntry]
) -> dict[str, list[str]]:
    """By name; nothing where all is as it was."""
    old, new = ({(type(e), e.name): e for e in entries} for entries in (before, after))
    found = {
        "added": [name for kind, name in new.keys() - old.keys()],
        "removed": [name for kind, name in old.keys() - new.keys()],
        "changed": [one[1] for one in new.keys() & old.keys() if new[one] != old[one]],
    }
    return {what: sorted(names) for what, names in found.items() if names}


def _rest(config: Config) -> Config:
    return config.model_copy(update={"tokens": [], "sources": []})
