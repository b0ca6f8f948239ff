"""`python -m tests.scale [KEYS] [PREFIXES]`: memory of a walk over a keyspace that no machine here
can hold. Replies come from a stream, without a server.
"""

import asyncio
import sys

from tests.scale.stream import peak_mb

if __name__ == "__main__":
    keys, prefixes = map(int, sys.argv[1:] or ("10000000", "1000000"))
    used = asyncio.run(peak_mb(keys, prefixes))
    sys.stdout.write(f"{keys:,} keys, {prefixes:,} prefixes: {used:.0f} MB\n")
