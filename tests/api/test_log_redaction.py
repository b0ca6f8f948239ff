"""Whatever is logged, by us or by a library, with whatever exception: no secret reaches stderr."""

import contextlib
import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from api import logs

SECRETS = ("hunter2XyZ9", "jane.doe@example.com", "4111111111111111")
SAYINGS = (
    "redis://app:hunter2XyZ9@cache:6379",
    "AUTH app hunter2XyZ9",
    "user:jane.doe@example.com:cart is gone",
    "card:4111111111111111",
    "Authorization: Bearer hunter2XyZ9hunter2XyZ9",
)


@contextlib.contextmanager
def logged() -> Iterator[io.StringIO]:
    """What the configured log writes. No fixture: pytest changes stderr between set-up and call."""
    written, root = io.StringIO(), logging.getLogger()
    before, level = root.handlers[:], root.level
    with contextlib.redirect_stderr(written):
        logs.configure()
        try:
            yield written
        finally:
            root.handlers[:], root.level = before, level


class Odd:
    """Something that only its repr can show."""

    def __repr__(self) -> str:
        return f"<Odd {SAYINGS[0]}>"


def raised(saying: str) -> Exception:
    error = RuntimeError(f"while saying {saying}")
    error.__cause__ = ConnectionError(saying)
    return error


@pytest.mark.parametrize("saying", SAYINGS)
def test_our_lines_and_their_exceptions(saying: str) -> None:
    log = structlog.get_logger("ours")
    with logged() as written:
        log.warning(saying, told=saying, many=[saying, (saying,)], each={saying: saying}, odd=Odd())
        log.error("failed", exc_info=raised(saying), because=raised(saying), raw=saying.encode())
    check(written.getvalue(), lines=2)


@pytest.mark.parametrize("saying", SAYINGS)
def test_lines_of_libraries(saying: str) -> None:
    log = logging.getLogger("uvicorn.error")
    with logged() as written:
        log.warning("said %s", saying)
        log.error("failed: %r", Odd(), exc_info=raised(saying))
        log.error("%(said)s", {"said": saying}, extra={"request": Odd()})
    check(written.getvalue(), lines=3)


def check(written: str, lines: int) -> None:
    assert [secret for secret in SECRETS if secret in written] == []
    events = [json.loads(line) for line in written.splitlines()]
    assert len(events) == lines
    assert "[redacted" in written


def test_a_line_that_cannot_be_written_is_not_shown_raw() -> None:
    record = logging.LogRecord("x", logging.ERROR, "", 1, "%d is no number", (SAYINGS[0],), None)
    with logged() as written:
        logging.getLogger().handlers[0].handle(record)  # not pytest's, which wants to raise
    assert written.getvalue() == ""


def test_lines_follow_stderr_when_what_it_was_is_closed() -> None:
    """Whoever redirects stderr while the service starts must not break its log afterwards."""
    with logged() as first:
        pass
    first.close()
    with contextlib.redirect_stderr(io.StringIO()) as later:
        structlog.get_logger("api").info("still_here")
    assert "still_here" in later.getvalue()
