"""`serve` and `worker` with targets that answer from recordings: for `bench intake` only.

`python -m api.cli.recorded_service serve|serve-only|worker|worker-beside PORT RECORDING…`.
Everything else of it is the service as it is: the same settings, the same processes.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from agent.context import Target
from agent.incident import Incident
from api.cli.service import serve, work
from api.worker import OpenReading
from tools import recording_file
from tools.connection import Command, CommandFailure, Connection, Reply
from tools.recording import RecordedConnection

ROUND_TRIP_SECONDS = 0.0005
"""Of a server in the same network; meanwhile others have their turn, as they have in production."""


class Paced(RecordedConnection):
    """Waits as long as on a real server."""

    async def execute_many(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        """Answer commands, after a round trip."""
        await asyncio.sleep(ROUND_TRIP_SECONDS)
        return await super().execute_many(commands)

    async def wait(self, seconds: float) -> None:
        """Sleep, and move the recording's clock on."""
        await asyncio.sleep(seconds)
        await super().wait(seconds)


def recorded(files: Sequence[str]) -> OpenReading:
    """`bench-0000` and so on answer from these in turn. They are read now, and kept."""
    recordings = [recording_file.read(Path(file)) for file in files]

    async def open_reading(target: Target, _incident: Incident) -> Connection:
        number = int(target.name.rpartition("-")[2])
        return Paced(recordings[number % len(recordings)])

    return open_reading


def main(part: str, port: str, *files: str) -> None:
    """Until told to stop."""
    if part.startswith("worker"):
        work(recorded(files), nudged=part == "worker-beside")
    else:
        beside = ("-m", "api.cli.recorded_service", "worker-beside", "0", *files)
        serve(None, int(port), worker=part == "serve", own_worker=beside)


if __name__ == "__main__":
    main(*sys.argv[1:])
