"""JSON logs, one line an event, with the incident's id and without secrets."""

import logging
import re
import sys
from typing import Any

import structlog

# Up to the last @: a password that was not encoded may hold `/` and `@`.
_CREDENTIALS = re.compile(r"(\b[a-z][a-z0-9+.-]{1,30}://)[^\s'\"]{1,500}@")
_TOKEN = re.compile(r"\broc_[A-Za-z0-9]+_[A-Za-z0-9_-]+|\bsk-[A-Za-z0-9_-]{8,}|(?i:bearer)\s+\S+")


def configure() -> None:
    """Send our logs and the libraries' to stderr as JSON."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
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
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)


def without_secrets(_: Any, __: str, event: Any) -> Any:
    """Passwords in URLs and tokens never reach the log, whatever an exception's text holds."""
    return {name: _masked(value) for name, value in event.items()}


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _masked(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(part) for part in value]
    if not isinstance(value, str):
        return value
    return _TOKEN.sub("***", _CREDENTIALS.sub(r"\1***@", value))
