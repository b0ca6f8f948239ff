"""What `serve` and the worker beside it count, added up: prometheus_client's multiprocess mode.

Each process keeps its counts in files of one folder; what a worker that ended had counted stays.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The library looks at it when it is imported, and the worker inherits it."""


def share() -> None:
    """From now on this process and those it starts add up. Before the library is imported."""
    os.environ[_FOLDER] = tempfile.mkdtemp(prefix="redis-oncall-metrics-")


def folder() -> str | None:
    """Where the counts are; None: this process counts for itself."""
    return os.environ.get(_FOLDER)


def add_up(pid: int) -> None:
    """What a process that ended had counted goes into one file, however many end.

    It must not be left out: the sum of all would fall, which Prometheus takes for a restart of
    everything, and what the others counted would be new to it.
    """
    if (shared := folder()) is None:
        return
    from prometheus_client.mmap_dict import MmapedDict

    file: Any = MmapedDict  # it has no types
    for kind in ("counter", "histogram"):
        ended = Path(shared, f"{kind}_{pid}.db")
        if not ended.exists():
            continue
        kept = file(str(Path(shared, f"{kind}_ended.db")))
        for key, value, _, _ in file.read_all_values_from_file(str(ended)):
            kept.write_value(key, kept.read_value(key)[0] + value, 0.0)
        kept.close()
        ended.unlink()
    for gauge in Path(shared).glob(f"gauge_*_{pid}.db"):  # of how it was then
        gauge.unlink()


def forget() -> None:
    """Nobody asks for them any more."""
    if (shared := folder()) is not None:
        shutil.rmtree(shared, ignore_errors=True)
