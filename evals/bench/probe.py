"""A client that wants an answer every few milliseconds, and how long it waits for each.

`python -m evals.bench.probe PORT SECONDS` prints the 99th percentile in milliseconds. Its moments
are fixed beforehand and times count from them: a stall is felt by all that is asked meanwhile.
"""

import socket
import sys
import time

EVERY_SECONDS = 0.002


def waits(port: int, seconds: float) -> list[float]:
    """Milliseconds, of each question."""
    found = []
    with socket.create_connection(("127.0.0.1", port), 10.0) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        for number in range(int(seconds / EVERY_SECONDS)):
            due = began + number * EVERY_SECONDS
            if (early := due - time.perf_counter()) > 0:
                time.sleep(early)
            link.sendall(b"*2\r\n$3\r\nGET\r\n$5\r\nprobe\r\n")
            link.recv(64)
            found.append((time.perf_counter() - due) * 1_000)
    return found


if __name__ == "__main__":
    ranked = sorted(waits(int(sys.argv[1]), float(sys.argv[2])))
    sys.stdout.write(f"{ranked[int(len(ranked) * 0.99)]}\n")
