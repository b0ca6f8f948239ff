"""Running the program as its user does."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """`redis-oncall …` with a clean environment; output captured, no terminal."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "REDIS_ONCALL_"))}
    return subprocess.run(
        [sys.executable, "-m", "api.cli", *arguments],
        cwd=ROOT,
        env=kept | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
