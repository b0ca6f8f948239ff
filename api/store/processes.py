"""Which processes are alive: each says so again and again, in a row of its own.

To write that row is also the proof that the database can be written, down to the disk.
"""

import os
import secrets
import socket
from importlib.metadata import version
from typing import Literal

from sqlalchemy import delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from api.store.database import Database
from api.store.process_table import ProcessRow

Part = Literal["serve", "worker"]
ALIVE_SECONDS = 15.0
"""After that long without a word it counts as dead; a sweeping worker speaks every 5 s."""


def process_name() -> str:
    """Of this life of this process: no other one, here or elsewhere, ever has it."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


async def say_alive(database: Database, name: str, part: Part) -> None:
    """This process lives; rows of those that died are removed."""
    async with database.writing() as session:
        clock = await database.clock(session)
        insert = (sqlite if database.is_sqlite else postgresql).insert(ProcessRow)
        values = {
            "part": part, "version": version("redis-oncall"), "expires": clock + ALIVE_SECONDS
        }  # fmt: skip
        await session.execute(
            insert.values(name=name, **values).on_conflict_do_update(
                index_elements=[ProcessRow.name], set_=values
            )
        )
        await session.execute(delete(ProcessRow).where(ProcessRow.expires < clock))


async def say_goodbye(database: Database, name: str) -> None:
    """This process ends in order."""
    async with database.writing() as session:
        await session.execute(delete(ProcessRow).where(ProcessRow.name == name))


async def workers(session: AsyncSession, clock: float) -> int:
    """How many processes sweep and work on incidents."""
    alive = select(func.count()).where(ProcessRow.part == "worker", ProcessRow.expires >= clock)
    return int(await session.scalar(alive) or 0)
