"""Benchmarks: ratios measured in the same run, never absolute promises."""

from collections.abc import Callable, Coroutine
from typing import Any

from evals.bench.investigate import bench_investigate

Bench = Callable[[int], Coroutine[Any, Any, dict[str, Any]]]
BENCHES: dict[str, Bench] = {"investigate": bench_investigate}
"""`bench NAME`; the argument is the number of runs."""
