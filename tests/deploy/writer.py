"""A program with the classic mistake: it writes sessions, and none of them ever expires.

`python -m tests.deploy.writer URL SHARE`: fast up to that share of maxmemory, then slowly on.
"""

import itertools
import sys
import time

import redis

BATCH = 200
PAUSE_SECONDS = 0.1
SLOWLY = 2


def main(url: str, share: float) -> None:
    """Write until somebody stops the program."""
    with redis.Redis.from_url(url) as client:
        limit = share * int(client.config_get("maxmemory")["maxmemory"])
        for start in itertools.count(0, BATCH):
            full = int(client.info("memory")["used_memory"]) > limit
            pipe = client.pipeline(transaction=False)
            for number in range(start, start + (SLOWLY if full else BATCH)):
                pipe.set(f"session:{number}", b"x" * 1_000)
            pipe.get(f"session:{start // 2}")
            pipe.execute()
            if full:
                time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
