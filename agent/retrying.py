"""What went wrong between us and a model's endpoint: in plain words, and whether to try again.

The library's own retries are off (`max_retries=0`): they know no deadline of ours, retry a spent
quota, and tell nobody why they gave up. A loop of a library would be longer than this one.
"""

import email.utils
import json
import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from agent.context import ReasonerUnavailable
from agent.redaction import redact
from tools.reading import printable

TRIES = 3
"""Of one request: the first and two more after a 408, 409, 429 or 5xx."""
TRIES_BROKEN = 2
"""Of one request whose connection broke: one more."""
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 8.0
LONGEST_SAID = 4_000
AGAIN = frozenset({408, 409, 429})
_UNPAID = re.compile(
    r"(?i)insufficient[_ ](?:quota|balance|credits|funds)|billing|exceeded your current quota"
)
FILTERED = ("content_filter", "ResponsibleAIPolicyViolation", "content management policy")


class TooLong(ReasonerUnavailable):
    """The request does not fit the model's context window. `window`: tokens, if known."""

    def __init__(self, window: int | None) -> None:
        size = f" of {window:,} tokens" if window else ""
        super().__init__(f"the incident does not fit the model's context window{size}")
        self.window = window


class Filtered(ReasonerUnavailable):
    """The endpoint is well, and does not want this prompt."""


class EndpointError(Exception):
    """One request that brought no usable reply.

    Args:
        words: what happened, for people.
        status: of HTTP; 0 if there was none.
        body: what the endpoint said, as JSON or text.
        headers: of the answer.
        broken: the connection failed: the same request may well work.
        begun: the reply had begun: providers charge for the request.
    """

    def __init__(
        self,
        words: str,
        *,
        status: int = 0,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        broken: bool = False,
        begun: bool = False,
    ) -> None:
        super().__init__(words)
        self.words = words
        self.status = status
        self.body = body
        self.headers = headers or {}
        self.broken = broken
        self.begun = begun

    @property
    def said(self) -> str:
        """What the endpoint said: field, code and message alike. Not for people: unredacted."""
        said = self.body if isinstance(self.body, str) else json.dumps(self.body, default=str)
        return said[:LONGEST_SAID] if self.body else ""

    @property
    def out_of_quota(self) -> bool:
        """Waiting will not help: somebody has to pay."""
        return self.status == 402 or (self.status in (403, 429) and bool(_UNPAID.search(self.said)))


class Unavailable(ReasonerUnavailable):
    """The endpoint failed. `seconds`: how long it wants to be left alone, if it says so."""

    def __init__(self, words: str, seconds: float = 0.0) -> None:
        super().__init__(words)
        self.seconds = seconds


def pause_before_retry(error: EndpointError, tries: int, seconds_left: float) -> float:
    """Seconds to wait before the next try. Raises Unavailable or Filtered if there is none."""
    why_not = _why_not_again(error)
    if why_not:
        raise why_not from error
    if tries >= (TRIES_BROKEN if error.broken else TRIES):
        times = f", {tries} times" if tries > 1 else ""
        raise Unavailable(f"{error.words}{times}", retry_after(error.headers)) from error
    asked = retry_after(error.headers)
    # Full jitter: many of us that failed together do not come back together.
    spread = random.uniform(0, min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**tries))  # noqa: S311
    wait = asked + spread / 4 if asked else spread
    if wait >= seconds_left:
        asks = f" and asks to wait {asked:.0f} s: more than is left" if asked else ""
        raise Unavailable(
            error.words + (asks or "; no time is left to try again"), asked
        ) from error
    return wait


def _why_not_again(error: EndpointError) -> ReasonerUnavailable | None:
    status, words = error.status, error.words
    if any(mark in error.said for mark in FILTERED):
        return Filtered("the endpoint's content filter refused the prompt")
    if error.out_of_quota:
        return Unavailable(f"{words}: the quota is spent", seconds=OUT_OF_QUOTA_SECONDS)
    if error.broken or status in AGAIN or status >= 500:
        told = error.headers.get("x-should-retry") == "false"
        return Unavailable(f"{words} and says not to try again") if told else None
    if status in (401, 403):
        return Unavailable(f"{words}: the API key was refused")
    if 300 <= status < 400:
        return Unavailable(f"{words}, a redirect: name the last address in OPENAI_BASE_URL")
    if status == 404:
        return Unavailable(f"{words}: no such model or path")
    return Unavailable(f"{words}: {worded(error.said)}" if error.said else words)


OUT_OF_QUOTA_SECONDS = 300.0
"""Nobody tops up an account faster."""


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds to wait, from milliseconds, a number or an HTTP date; 0 for anything else."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * unit
        except (KeyError, ValueError):
            continue
        return max(0.0, seconds) if seconds == seconds else 0.0  # not a number
    try:
        at = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    except (ValueError, TypeError, OverflowError):  # the last: a time zone of many digits
        return 0.0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def worded(said: str) -> str:
    """What an endpoint said: it may echo the key or the prompt, so bounded and redacted."""
    return printable(redact(said), 200)


def broke_off(how: str = "dropped the connection") -> EndpointError:
    """A reply that had begun and does not go on."""
    return EndpointError(f"the model's endpoint {how} mid-reply", broken=True, begun=True)
