"""A server that can be resized, and the hook that does it: a program that restarts it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HOOK = Path(__file__)


def write_state(path: Path, **state: Any) -> None:
    """What the hook needs to know: which process, how it is started, how it is to behave."""
    path.write_text(json.dumps(state))


def calls(path: Path) -> list[dict[str, Any]]:
    """Every order that the hook was given."""
    log = path.with_suffix(".calls")
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def environment(path: Path) -> dict[str, str]:
    """What the hook found in its environment."""
    found: dict[str, str] = json.loads(path.with_suffix(".environment").read_text())
    return found


def _main(path: Path) -> int:
    state, order = json.loads(path.read_text()), json.load(sys.stdin)
    with path.with_suffix(".calls").open("a") as log:
        log.write(json.dumps(order) + "\n")
    path.with_suffix(".environment").write_text(json.dumps(dict(os.environ)))
    behaviour = state.get("behaviour", "resizes")
    if behaviour == "refuses":
        sys.stderr.write("quota exceeded, token=s3cr3t-T0ken-of-theirs\n")
        return 3
    if behaviour != "lies":
        _restart(path, state, order["maxmemory_bytes"])
    if behaviour == "never answers":
        time.sleep(60)
    sys.stdout.write("done\n")
    return 0


def _restart(path: Path, state: dict[str, Any], maxmemory: int) -> None:
    os.kill(state["pid"], signal.SIGTERM)
    while _answers(state["port"]):
        time.sleep(0.02)
    process = subprocess.Popen(
        [*state["command"], "--maxmemory", str(maxmemory)],
        executable=state["binary"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    write_state(path, **state | {"pid": process.pid, "restarted": True})


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 0.2):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1])))
