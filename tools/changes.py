"""`server_changes`, `key_changes`: what is different from healthy times, and since when."""

import asyncio
from datetime import timedelta

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from tools import departures
from tools.catalogue import Arguments
from tools.connection import Connection
from tools.differences import KeyChanges, ServerChanges, key_differences, server_differences
from tools.encodings import SAMPLED, EncodingsArguments, encodings
from tools.reading import NotMeasured
from tools.samples import take_samples
from tools.scanner import ScanArguments
from tools.shape import Baselines, key_shape, server_shape, shape_of

SECONDS = 5.0
"""Of the newest rates."""
_AHEAD = Baselines(because="what is kept is of a later time: a clock was set back")


class ServerChangesArguments(Arguments):
    """Nothing to choose: it is compared with all that is kept."""

    baselines: SkipJsonSchema[Baselines | None] = Field(default=None, exclude=True, repr=False)
    """Handed over by whoever keeps them, never kept in evidence."""


class KeyChangesArguments(ScanArguments):
    """Budget of the sample: each key of it is up to five keyspace hits."""

    seconds: SkipJsonSchema[float] = Field(default=4.0, gt=0, le=120)
    keys: SkipJsonSchema[int] = Field(default=SAMPLED, ge=1, le=20_000)
    """As many as those that are kept: a sample is compared with samples."""
    baselines: SkipJsonSchema[Baselines | None] = Field(default=None, exclude=True, repr=False)


async def server_changes(
    connection: Connection, args: ServerChangesArguments
) -> ServerChanges | NotMeasured:
    """What changed since healthy times, and when: config, version, role, traffic, clients.

    Rates are per second, in bytes where named so. Source: looks that `watch` keeps; INFO twice,
    CONFIG GET, CLIENT LIST.
    """
    kept = (args.baselines or Baselines()).servers
    if not kept:
        return _nothing_kept("server_changes", args.baselines)
    now = await server_shape(connection)
    if not (kept := departures.earlier(kept, now)):
        return _nothing_kept("server_changes", _AHEAD)
    samples = await take_samples(connection, SECONDS, "commandstats", "keyspace", "replication")
    ended = connection.now()
    began = ended - timedelta(seconds=samples.seconds)
    newest = (shape_of(samples.first, began, now.node), shape_of(samples.last, ended, now.node))
    return await asyncio.to_thread(server_differences, kept, now, newest)


async def key_changes(
    connection: Connection, args: KeyChangesArguments
) -> KeyChanges | NotMeasured:
    """What changed since healthy times, and when: shares of prefixes, encodings.

    Source: samples that `watch` keeps; SCAN or RANDOMKEY, TYPE, OBJECT ENCODING.
    """
    kept = (args.baselines or Baselines()).keyspaces
    if not kept:
        return _nothing_kept("key_changes", args.baselines)
    budget = args.model_dump(include=set(ScanArguments.model_fields))
    found = await encodings(connection, EncodingsArguments(**budget))
    if isinstance(found, NotMeasured):
        return found
    now = key_shape(found, connection.now())
    if not (kept := departures.earlier(kept, now)):
        return _nothing_kept("key_changes", _AHEAD)
    told = await asyncio.to_thread(key_differences, kept, now)
    return told.model_copy(update={"stopped_because": found.stopped_because})


def _nothing_kept(tool: str, baselines: Baselines | None) -> NotMeasured:
    because = baselines.because if baselines is not None else ""
    return NotMeasured(
        not_measured=tool,
        because=because or "nobody keeps what this server looks like in healthy times",
        failure="not_configured",
        remedy="leave `watch` on: it keeps that where nothing is wrong",
    )
