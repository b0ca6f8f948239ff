"""JSON logs, one line an event, with the incident's id and without secrets."""

import logging
import re
import sys
from typing import Any

import structlog

from agent.redaction import redact_tree
from api import tracing


def configure() -> None:
    """Send our logs and the libraries' to stderr as JSON."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        with_trace,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        without_secrets,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # Looked up at each line: whoever redirects stderr for a while must not break us after.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=shared,
        )
    )
    # When a line cannot be written, `logging` prints its arguments to stderr, as they are.
    logging.raiseExceptions = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)


def with_trace(_: Any, __: str, event: Any) -> Any:
    """The trace it belongs to, if there is one."""
    if trace := tracing.trace_id():
        event["trace"] = trace
    return event


def without_secrets(_: Any, __: str, event: Any) -> Any:
    """No password, token or address reaches the log, whatever an exception's text holds."""
    return redact_tree(_plain(event, 0))


_DEEPEST = 20
_SHORT_KEY = re.compile(r"\bsk-[A-Za-z0-9_-]{8,}")
"""Shorter than any real one: in a log nothing else of that look is worth keeping."""


def _plain(value: Any, depth: int) -> Any:
    """What the line will show, as JSON: an object shows itself by its repr, secrets included."""
    if isinstance(value, int | float | None):
        return value
    if isinstance(value, str):
        return _SHORT_KEY.sub("***", value)
    if depth < _DEEPEST and isinstance(value, dict):
        return {str(name): _plain(part, depth + 1) for name, part in value.items()}
    if depth < _DEEPEST and isinstance(value, list | tuple):
        return [_plain(part, depth + 1) for part in value]
    return repr(value)
