"""`python -m evals.bench.walking URL`: gentle walks over a server's keys, one after the other."""

import asyncio
import sys

from tools.bigkeys import BigKeysArguments, bigkeys
from tools.connection import LiveConnection


async def walk(url: str) -> None:
    """Until it is stopped."""
    connection = LiveConnection(url)
    await connection.open()
    while True:
        await bigkeys(connection, BigKeysArguments(seconds=120, keys=10_000_000))


if __name__ == "__main__":
    asyncio.run(walk(sys.argv[1]))
