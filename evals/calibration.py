"""Is it right as often as it says? Pure, over pairs of (confidence, right)."""

import math
from collections.abc import Sequence
from typing import Any

BINS = 10
Pairs = Sequence[tuple[float, bool]]


def brier(pairs: Pairs) -> float | None:
    """Mean squared distance of confidence from what came true; 0 is perfect, None of nothing."""
    if not pairs:
        return None
    return math.fsum((confidence - right) ** 2 for confidence, right in pairs) / len(pairs)


def calibration_error(pairs: Pairs) -> float:
    """Expected calibration error: gap between confidence and success, over ten equal bins."""
    gaps = math.fsum(row["n"] * abs(row["confidence"] - row["right"]) for row in reliability(pairs))
    return gaps / len(pairs) if pairs else 0.0


def reliability(pairs: Pairs) -> list[dict[str, Any]]:
    """One row a bin that holds something: `from`, `to`, `n`, mean `confidence`, share `right`."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for confidence, right in pairs:
        bins.setdefault(min(BINS - 1, int(confidence * BINS)), []).append((confidence, right))
    return [
        {
            "from": number / BINS,
            "to": (number + 1) / BINS,
            "n": len(inside),
            "confidence": math.fsum(confidence for confidence, _ in inside) / len(inside),
            "right": sum(right for _, right in inside) / len(inside),
        }
        for number, inside in sorted(bins.items())
    ]


def auroc(pairs: Pairs) -> float | None:
    """How likely a right answer is surer than a wrong one; a tie counts half.

    None where every answer is right, or none is: then there is nothing to tell apart, and
    neither 1.0 nor 0.5 would be true.
    """
    rights = sum(right for _, right in pairs)
    wrongs = len(pairs) - rights
    if not rights or not wrongs:
        return None
    ordered = sorted(pairs, key=lambda pair: pair[0])
    ranks, start = 0.0, 0
    while start < len(ordered):  # one group of equal confidence after another
        end = start
        while end < len(ordered) and ordered[end][0] == ordered[start][0]:
            end += 1
        ranks += (start + end + 1) / 2 * sum(right for _, right in ordered[start:end])
        start = end
    return (ranks - rights * (rights + 1) / 2) / (rights * wrongs)
