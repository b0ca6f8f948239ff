"""Prometheus metrics that this process counts. Those of the store: `api/store/standing.py`.

Labels have few values: routes as they are declared, configured targets, tools of the catalogue,
kinds of failure. Nothing that a sender, a server or a model chose is ever a label.
"""

from datetime import UTC, datetime
from importlib.metadata import version
from platform import python_version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

from agent.incident import Incident, Usage

disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()
BUILD = Gauge(
    "redis_oncall_build_info", "Always 1.", ["version", "python"],
    registry=REGISTRY, multiprocess_mode="max",
)  # fmt: skip
BUILD.labels(version=version("redis-oncall"), python=python_version()).set(1)

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
NO_ROUTE = "none"
REQUESTS = Counter(
    "redis_oncall_http_requests_total", "HTTP requests by route and class of the answer.",
    ["method", "route", "code"], registry=REGISTRY,
)  # fmt: skip
REQUEST_SECONDS = Histogram(
    "redis_oncall_http_request_duration_seconds",
    "From a request's arrival to the beginning of its answer.",
    ["method", "route", "code"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)
IN_FLIGHT = Gauge(
    "redis_oncall_http_requests_in_flight", "Requests being answered.",
    registry=REGISTRY, multiprocess_mode="livesum",
)  # fmt: skip
SIGN_INS_FAILED = Counter(
    "redis_oncall_sign_in_failures_total", "Requests without a valid token.", registry=REGISTRY
)

ALERTS = Counter(
    "redis_oncall_alerts_total", "Alerts received.", ["source", "status"], registry=REGISTRY
)
REFUSED = Counter(
    "redis_oncall_alerts_refused_total",
    "Alerts that were not taken. A message that nobody read counts as one.",
    ["source", "because"],
    registry=REGISTRY,
)
"""because: intake (too much waits to be stored) | queue (no room for another incident) | database.

Of messages that nobody read: rate (what is over it must cost little) | busy | size.
"""
TRUNCATED = Counter(
    "redis_oncall_alerts_truncated_total",
    "Alerts that senders left out of their messages.",
    ["source"],
    registry=REGISTRY,
)
REPEATED = Counter(
    "redis_oncall_deliveries_repeated_total",
    "Messages that came again: delivered twice, or replayed.",
    ["source"],
    registry=REGISTRY,
)
DECISIONS = Counter(
    "redis_oncall_decisions_total", "Decisions of people.", ["decision"], registry=REGISTRY
)

RUN_SECONDS = Histogram(
    "redis_oncall_run_seconds",
    "Time of one run of the graph, to its end or to the gate.",
    buckets=(1, 2.5, 5, 7.5, 10, 15, 30, 60, 120, 300),
    registry=REGISTRY,
)
RUNS_FAILED = Counter(
    "redis_oncall_runs_failed_total", "Runs that ended with an error.", registry=REGISTRY
)
INVESTIGATIONS = Counter(
    "redis_oncall_investigations_total",
    "Investigations that ended, by the status after them and who decided: rules, model or none.",
    ["outcome", "reasoner"],
    registry=REGISTRY,
)
INVESTIGATION_SECONDS = Histogram(
    "redis_oncall_investigation_duration_seconds",
    "Time of the run that ended an investigation, by who decided.",
    ["reasoner"],
    buckets=(1, 2.5, 5, 7.5, 10, 15, 30, 60, 120, 300),
    registry=REGISTRY,
)
DIAGNOSIS_SECONDS = Histogram(
    "redis_oncall_time_to_diagnosis_seconds",
    "From the opening of an incident to the end of its first investigation.",
    buckets=(5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600),
    registry=REGISTRY,
)

LOOKS = Counter(
    "redis_oncall_looks_total", "Read-only tools run: measured, or why not.",
    ["tool", "outcome"], registry=REGISTRY,
)  # fmt: skip
CLAIM_CHECKS = Counter(
    "redis_oncall_claim_checks_total", "Submissions checked against the evidence.",
    ["reasoner", "outcome"], registry=REGISTRY,
)  # fmt: skip
MODEL_CALLS = Counter(
    "redis_oncall_model_calls_total", "Calls of a language model.",
    ["purpose", "outcome"], registry=REGISTRY,
)  # fmt: skip
MODEL_SECONDS = Counter(
    "redis_oncall_model_seconds_total", "Time spent waiting for a language model.",
    ["purpose"], registry=REGISTRY,
)  # fmt: skip
MODEL_TOKENS = Counter(
    "redis_oncall_model_tokens_total", "Tokens; cached ones are input, too.",
    ["purpose", "kind"], registry=REGISTRY,
)  # fmt: skip
MODEL_DOLLARS = Counter(
    "redis_oncall_model_dollars_total", "What calls of a model with a price cost.",
    ["purpose"], registry=REGISTRY,
)  # fmt: skip
MODEL_UNPRICED = Counter(
    "redis_oncall_model_unpriced_calls_total", "Calls whose cost is unknown.",
    ["purpose"], registry=REGISTRY,
)  # fmt: skip

TARGET_COMMANDS = Counter(
    "redis_oncall_target_commands_total", "Commands sent to a target: for what.",
    ["target", "purpose"], registry=REGISTRY,
)  # fmt: skip
TARGET_SECONDS = Counter(
    "redis_oncall_target_seconds_total", "Time spent waiting for a target's answers.",
    ["target", "purpose"], registry=REGISTRY,
)  # fmt: skip
WATCH_ROUNDS = Counter(
    "redis_oncall_watch_rounds_total", "Rounds of looks at every target.", registry=REGISTRY
)
WATCH_LOOKS = Counter(
    "redis_oncall_watch_looks_total", "Looks of these rounds at one target.",
    ["outcome"], registry=REGISTRY,
)  # fmt: skip


def answered(method: str, route: str, status: int, seconds: float) -> None:
    """A request's answer has begun. `route`: its template, empty if it has none."""
    labels = {
        "method": method if method in METHODS else "other",
        "route": route or NO_ROUTE,
        "code": f"{status // 100}xx",
    }
    REQUESTS.labels(**labels).inc()
    REQUEST_SECONDS.labels(**labels).observe(seconds)


def called_model(purpose: str, usage: Usage, seconds: float, *, failed: bool) -> None:
    """A call of a model is over."""
    MODEL_CALLS.labels(purpose, "failed" if failed else "answered").inc()
    MODEL_SECONDS.labels(purpose).inc(seconds)
    for kind in ("input", "output", "cached"):
        MODEL_TOKENS.labels(purpose, kind).inc(getattr(usage, f"{kind}_tokens"))
    if usage.dollars is None:
        MODEL_UNPRICED.labels(purpose).inc()
    else:
        MODEL_DOLLARS.labels(purpose).inc(usage.dollars)


def investigated(incident: Incident, seconds: float) -> None:
    """An investigation is over, after a last run of so many seconds."""
    diagnosis = incident.diagnosis
    reasoner = "none" if diagnosis is None else diagnosis.reasoner.partition(":")[0]
    reasoner = "model" if reasoner == "openai" else reasoner
    INVESTIGATIONS.labels(incident.status, reasoner).inc()
    INVESTIGATION_SECONDS.labels(reasoner).observe(seconds)
    if incident.attempt == 1:
        waited = (datetime.now(UTC) - incident.opened_at).total_seconds()
        DIAGNOSIS_SECONDS.observe(max(0.0, waited))
