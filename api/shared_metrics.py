"""What `serve` and the worker beside it count, added up: prometheus_client's multiprocess mode.

Each process keeps its counts in files of one folder; what a worker that ended had counted stays.
"""

import os
import shutil
import tempfile

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The library looks at it when it is imported, and the worker inherits it."""


def share() -> None:
    """From now on this process and those it starts add up. Before the library is imported."""
    os.environ[_FOLDER] = tempfile.mkdtemp(prefix="redis-oncall-metrics-")


def folder() -> str | None:
    """Where the counts are; None: this process counts for itself."""
    return os.environ.get(_FOLDER)


def forget() -> None:
    """Nobody asks for them any more."""
    if (shared := folder()) is not None:
        shutil.rmtree(shared, ignore_errors=True)
