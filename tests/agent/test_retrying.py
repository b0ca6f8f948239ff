"""When a request is tried again, and after how long."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.retrying import (
    LONGEST_PAUSE_SECONDS,
    EndpointError,
    Filtered,
    Unavailable,
    pause_before_retry,
    retry_after,
)

SOON = format_datetime(datetime.now(UTC) + timedelta(hours=1))


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({}, 0, 0),
        ({"retry-after": "2"}, 2, 2),
        ({"retry-after": "1.5"}, 1.5, 1.5),
        ({"retry-after-ms": "250"}, 0.25, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9, 9),
        ({"retry-after": SOON}, 600, 3_600),
        ({"retry-after": "Mon, 01 Jan 2001 00:00:00 GMT"}, 0, 0),
        ({"retry-after": "-5"}, 0, 0),
        ({"retry-after": "nan"}, 0, 0),
        ({"retry-after": "soon"}, 0, 0),
        ({"retry-after": "Mon, 99 Foo"}, 0, 0),
        ({"retry-after": f"Mon, 01 Jan 2001 00:00:00 +{9 * 10**20}"}, 0, 0),
    ],
)
def test_how_long_an_endpoint_asks_to_wait(
    headers: dict[str, str], low: float, high: float
) -> None:
    assert low <= retry_after(headers) <= high


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_what_may_pass_is_tried_three_times(status: int) -> None:
    error = EndpointError(f"answered {status}", status=status)
    pause_before_retry(error, 1, 60)
    pause_before_retry(error, 2, 60)
    with pytest.raises(Unavailable, match=f"answered {status}, 3 times"):
        pause_before_retry(error, 3, 60)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (EndpointError("x", status=400, body={"message": "no"}), "no"),
        (EndpointError("x", status=401), "the API key was refused"),
        (EndpointError("x", status=404), "no such model or path"),
        (EndpointError("x", status=429, body={"code": "insufficient_quota"}), "quota is spent"),
        (EndpointError("x", status=402, body={"message": "pay"}), "quota is spent"),
        (EndpointError("x", status=403, body={"message": "Check your billing"}), "quota is spent"),
        (EndpointError("x", status=308), "a redirect: name the last address in OPENAI_BASE_URL"),
        (
            EndpointError("x", status=503, headers={"x-should-retry": "false"}),
            "says not to try again",
        ),
        (EndpointError("x", status=429, headers={"retry-after": "61"}), "asks to wait 61 s"),
    ],
)
def test_what_will_not_pass_is_not_tried_again(error: EndpointError, says: str) -> None:
    with pytest.raises(Unavailable, match=says):
        pause_before_retry(error, 1, 60)


def test_without_time_nothing_is_tried_again() -> None:
    with pytest.raises(Unavailable, match="x; no time is left to try again"):
        pause_before_retry(EndpointError("x", status=503), 1, 0.0)


def test_a_filter_is_no_failure_of_the_endpoint() -> None:
    error = EndpointError("x", status=400, body={"innererror": "ResponsibleAIPolicyViolation"})
    with pytest.raises(Filtered):
        pause_before_retry(error, 1, 60)


@given(
    tries=st.integers(1, 2),
    asked=st.none() | st.floats(0.1, 30),
    broken=st.booleans(),
)
def test_a_pause_is_never_shorter_than_asked_for_nor_longer_than_need_be(
    tries: int, asked: float | None, broken: bool
) -> None:
    headers = {} if asked is None else {"retry-after": str(asked)}
    error = EndpointError("x", status=0 if broken else 503, headers=headers, broken=broken)
    if broken and tries == 2:
        return
    pause = pause_before_retry(error, tries, 1_000)
    assert (asked or 0) <= pause <= (asked or 0) + LONGEST_PAUSE_SECONDS


def test_pauses_differ() -> None:
    """Full jitter: many that failed together do not come back together."""
    error = EndpointError("x", status=503)
    pauses = [pause_before_retry(error, 1, 60) for _ in range(200)]
    assert max(pauses) > 2 * min(pauses)
    assert len(set(pauses)) > 100
