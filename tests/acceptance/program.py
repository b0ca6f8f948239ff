"""Running the program as its user does."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.forked import Forked

ROOT = Path(__file__).parents[2]
SECONDS = 240


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """`redis-oncall …` with a clean environment; output captured, no terminal."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        program = Forked(arguments, clean(environment), out, err)
        try:
            code = program.wait(SECONDS)
        finally:
            program.kill()
        return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())


def started(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The same by an interpreter of its own: that it starts is part of what is shown."""
    return subprocess.run(
        [sys.executable, "-m", "api.cli", *arguments],
        cwd=ROOT,
        env=clean(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def clean(environment: dict[str, str]) -> dict[str, str]:
    """Nothing of ours from outside, and this."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "REDIS_ONCALL_"))}
    return kept | environment
