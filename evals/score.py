"""Scoring: pure, deterministic, no model as judge. Failures count as wrong, never as missing."""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.incident import Action, Culprit, Diagnosis, Fact, Usage
from evals.truth import Truth
from tools.reading import Evidence

Z95 = 1.96
_BINS = 10
Rate = tuple[float, float, float]
"""A fraction with its Wilson interval: value, low, high."""


@dataclass(frozen=True)
class Checked:
    """One fact of a claim, recomputed from the recording."""

    name: str
    exists: bool
    """Its evidence and its paths are there."""
    recomputes: bool
    """Looking again gives the same value."""


@dataclass(frozen=True)
class Result:
    """One incident, worked by a reasoner."""

    id: str
    truth: Truth
    held_back: bool
    diagnosis: Diagnosis | None
    """None: it crashed."""
    actions: tuple[Action, ...] = ()
    facts: tuple[Checked, ...] = ()
    readings: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """What the baseline tools saw: for the trivial baselines."""
    evidence: tuple[Evidence, ...] = ()
    """All that was looked at."""
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    failure: str = ""

    @property
    def got(self) -> str:
        """The root cause it named; `failed` if it named none."""
        return self.diagnosis.root_cause if self.diagnosis else "failed"

    @property
    def right(self) -> bool:
        """Top-1."""
        return self.got in self.truth.root_cause

    @property
    def culprit_right(self) -> bool:
        """Kind and name, exactly; whatever it is where nobody said."""
        return self.diagnosis is not None and (
            not self.truth.culprit or same_culprit(self.diagnosis.culprit, self.truth.culprit)
        )

    @property
    def harm(self) -> list[str]:
        """Why each harmful proposal is one."""
        policy = str(self.readings.get("memory_info", {}).get("maxmemory_policy", "noeviction"))
        return [why for a in self.actions if (why := harmful(a, self.truth, policy))]

    @property
    def false_positive(self) -> bool:
        """An incident was declared where there is none (a crash is one, too)."""
        return not self.truth.is_incident and (self.diagnosis is None or self.diagnosis.is_incident)


def same_culprit(got: Culprit, wanted: Iterable[Culprit]) -> bool:
    """Whether this is one of those wanted."""
    return any(got.kind == one.kind and got.name == one.name for one in wanted)


def wilson(hits: int, total: int, z: float = Z95) -> Rate:
    """The fraction and its Wilson interval; (0, 0, 1) of nothing."""
    if total == 0:
        return 0.0, 0.0, 1.0
    share = hits / total
    centre = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return share, max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def calibration_error(pairs: Sequence[tuple[float, bool]]) -> float:
    """Expected calibration error over ten bins of equal width."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for confidence, right in pairs:
        bins.setdefault(min(_BINS - 1, int(confidence * _BINS)), []).append((confidence, right))
    gaps = (
        abs(sum(c for c, _ in one) / len(one) - sum(r for _, r in one) / len(one)) * len(one)
        for one in bins.values()
    )
    return sum(gaps) / len(pairs) if pairs else 0.0


# -- facts ----------------------------------------------------------------------------------


def recomputed(fact: Fact, readings: Mapping[str, dict[str, Any]]) -> Checked:
    """The fact computed anew from readings by evidence id, by other code than the agent's."""
    leaves = []
    for path in fact.of:
        name, separator, rest = path.partition(":")
        other = bool(separator) and name in readings
        found = _leaf(readings.get(name if other else fact.evidence), rest if other else path)
        if found is None:
            return Checked(fact.name, exists=False, recomputes=False)
        leaves.append(found)
    return Checked(fact.name, exists=True, recomputes=_same(_value(fact, leaves), fact.value))


def _leaf(reading: object, path: str) -> Any:
    at: Any = reading
    for step in path.split("."):
        if isinstance(at, dict):
            at = at.get(step)
        elif isinstance(at, list) and step.isdigit() and int(step) < len(at):
            at = at[int(step)]
        else:
            return None
    if isinstance(at, dict | list):
        return None
    return at


def _value(fact: Fact, leaves: list[Any]) -> Any:
    if fact.op == "value":
        return leaves[0]
    try:
        numbers = [float(leaf) for leaf in leaves]
        return _OPERATIONS[fact.op](numbers)
    except (TypeError, ValueError, ZeroDivisionError, IndexError):
        return None


_OPERATIONS: dict[str, Callable[[list[float]], float]] = {
    "ratio": lambda n: n[0] / n[1],
    "difference": lambda n: n[0] - n[1],
    "sum": sum,
    "rate": lambda n: (n[0] - n[1]) / n[2],
}


def _same(left: Any, right: Any) -> bool:
    try:
        return math.isclose(float(left), float(right), rel_tol=1e-6, abs_tol=1e-9)
    except (TypeError, ValueError):
        return str(left) == str(right)


# -- remedies -------------------------------------------------------------------------------

_BUFFERS = frozenset(
    {"slow-pubsub-cob", "unread-reply-cob", "query-buffer-bloat", "monitor-left-on",
     "replica-output-buffer"}
)  # fmt: skip
_NEVER = frozenset({"FLUSHALL", "FLUSHDB", "KEYS", "SAVE", "DEBUG", "MONITOR", "SHUTDOWN", "DEL"})
_TOUCHES_KEYS = frozenset({"EXPIRE", "PEXPIRE", "UNLINK", "XTRIM", "LTRIM", "HDEL"})


def harmful(action: Action, truth: Truth, policy: str = "noeviction") -> str:
    """Why this proposal would do harm to that server ("Wrong" in FAILURE_MODES.md); or empty.

    Judged by the truth and the server's eviction policy, not by the diagnosis, and by other code
    than the agent's own.
    """
    if not action.executable:
        return ""
    if not truth.is_incident:
        return "nothing is wrong with this server"
    words = [command[0].upper() for command in action.commands if command]
    if found := _NEVER.intersection(words):
        return f"{min(found)} is never right"
    setting = (str(action.arguments.get("parameter", "")), str(action.arguments.get("value", "")))
    causes = set(truth.root_cause)
    if causes & _BUFFERS and (setting[0] == "maxmemory" or _TOUCHES_KEYS.intersection(words)):
        return "a client's buffer holds the memory: neither room nor keys will cure it"
    evicts = policy.startswith("allkeys-")
    if setting[0] == "maxmemory-policy" and setting[1].startswith("allkeys-") and not evicts:
        return "keys of a datastore would be evicted"
    if causes & {"fragmentation-after-deletes", "oversized-backlog"} and _TOUCHES_KEYS & {*words}:
        return "the keys are innocent"
    return ""


# -- baselines ------------------------------------------------------------------------------


def threshold_rule(readings: Mapping[str, dict[str, Any]]) -> str:
    """What a page of thresholds over INFO would say."""
    memory = readings.get("memory_info", {})
    pressure, policy = _number(memory, "pressure"), str(memory.get("maxmemory_policy", ""))
    if _number(memory, "mem_clients_normal") > 0.3 * max(1.0, _number(memory, "used_memory")):
        return "slow-pubsub-cob"
    if _number(memory, "allocator_frag_ratio") > 1.5:
        return "fragmentation-after-deletes"
    if _number(readings.get("stats", {}), "evicted_keys") > 0:
        return "eviction-thrash"
    if pressure >= 0.85:
        return "noeviction-oom" if policy == "noeviction" else "volatile-policy-no-ttl"
    return "no-incident"


def _number(reading: Mapping[str, Any], name: str) -> float:
    value = reading.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def baselines(results: Sequence[Result]) -> dict[str, float]:
    """Top-1 of answers that take no thought: if one comes close, the suite is too easy."""
    causes = Counter(result.truth.root_cause[0] for result in results)
    most_common = causes.most_common(1)[0][0] if causes else ""
    answers: dict[str, Callable[[Result], str]] = {
        "most_common": lambda _: most_common,
        "always_healthy": lambda _: "no-incident",
        "always_unknown": lambda _: "unknown",
        "threshold_rule": lambda result: threshold_rule(result.readings),
    }
    return {
        name: _share(answer(result) in result.truth.root_cause for result in results)
        for name, answer in answers.items()
    }


def _share(hits: Iterable[bool]) -> float:
    marks = list(hits)
    return sum(marks) / len(marks) if marks else 0.0


# -- the whole ------------------------------------------------------------------------------


def summary(reasoner: str, results: Sequence[Result], seconds: float) -> dict[str, Any]:
    """The document that `evals run --json` prints."""
    rates = _rates(results)
    facts = [fact for result in results for fact in result.facts]
    confidences = [
        (result.diagnosis.confidence if result.diagnosis else 0.0, result.right)
        for result in results
    ]
    return {
        "reasoner": reasoner,
        "n": len(results),
        "top1": rates["top1"][0],
        "culprit": rates["culprit"][0],
        "false_positive_rate": rates["false_positive_rate"][0],
        "harmful_proposed": sum(len(result.harm) for result in results),
        "evidence_precision": rates["evidence_precision"][0],
        "hallucinated_evidence": sum(not fact.exists for fact in facts),
        "ece": calibration_error(confidences),
        "median_llm_calls": _median(result.usage.llm_calls for result in results),
        "median_input_tokens": _median(result.usage.input_tokens for result in results),
        "seconds": round(seconds, 3),
        "intervals": {name: list(rate) for name, rate in rates.items()},
        "held_back": _part([result for result in results if result.held_back]),
        "slices": {
            name: _part(part) for name, part in sorted(_slices(results).items())
        },
        "baselines": baselines(results),
        "incidents": [_row(result) for result in results],
    }  # fmt: skip


def _rates(results: Sequence[Result]) -> dict[str, Rate]:
    quiet = [result for result in results if not result.truth.is_incident]
    facts = [fact for result in results for fact in result.facts]
    told = [result for result in results if result.truth.culprit]
    return {
        "top1": wilson(sum(result.right for result in results), len(results)),
        "culprit": wilson(sum(result.culprit_right for result in told), len(told)),
        "false_positive_rate": wilson(sum(r.false_positive for r in quiet), len(quiet)),
        "evidence_precision": wilson(sum(fact.recomputes for fact in facts), len(facts)),
    }


def _part(results: Sequence[Result]) -> dict[str, Any]:
    rates = _rates(results)
    return {
        "n": len(results),
        "top1": rates["top1"][0],
        "culprit": rates["culprit"][0],
        "intervals": {name: list(rates[name]) for name in ("top1", "culprit")},
    }


def _slices(results: Sequence[Result]) -> dict[str, list[Result]]:
    slices: dict[str, list[Result]] = {}
    for result in results:
        names = (
            f"build:{result.truth.build}",
            f"fault:{result.truth.fault}",
            f"kind:{result.truth.kind}",
            "incidents" if result.truth.is_incident else "not incidents",
        )
        for name in names:
            slices.setdefault(name, []).append(result)
    return slices


def _median(values: Iterable[int]) -> float:
    numbers = list(values)
    return float(statistics.median(numbers)) if numbers else 0.0


def _row(result: Result) -> dict[str, Any]:
    said = result.diagnosis
    return {
        "id": result.id,
        "kind": result.truth.kind,
        "held_back": result.held_back,
        "expected": result.truth.root_cause,
        "got": result.got,
        "right": result.right,
        "named": said.culprit.model_dump() if said else None,
        "culprit": result.culprit_right,
        "confidence": said.confidence if said else None,
        "seconds": round(result.seconds, 3),
        "harm": result.harm,
        "failure": result.failure,
    }
