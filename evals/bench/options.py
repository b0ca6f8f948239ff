"""What a benchmark may be told, and how it tells what it is doing."""

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Tell = Callable[[str], None]
"""Progress, a line at a time."""


@dataclass(frozen=True)
class Options:
    """Each benchmark uses those that concern it."""

    runs: int | None = None
    """None: as many as that benchmark likes."""
    requests: int = 10_000
    targets: int = 200
    seconds: float = 60.0
    concurrency: int = 4
    """Investigations at a time, shared evenly by the processes that work."""
    database: Literal["sqlite", "postgresql"] = "sqlite"
    keys: int = 1_000_000


def machine(*more: str) -> str:
    """Where it was measured."""
    cores = f"{os.cpu_count()} cores"
    return ", ".join([cores, platform.machine(), f"Python {platform.python_version()}", *more])
