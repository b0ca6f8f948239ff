"""What `bench NAME` runs."""

from collections.abc import Callable, Coroutine
from typing import Any

from evals.bench.intake import bench_intake
from evals.bench.investigate import bench_investigate
from evals.bench.options import Options, Tell
from evals.bench.scan import bench_scan

Bench = Callable[[Options, Tell], Coroutine[Any, Any, dict[str, Any]]]
BENCHES: dict[str, Bench] = {
    "investigate": bench_investigate,
    "intake": bench_intake,
    "scan": bench_scan,
}
"""`bench NAME`."""
