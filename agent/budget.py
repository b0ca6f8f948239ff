"""What the model may cost: hard caps for an incident and for a day, kept in code. No calls here.

A day is a UTC day, and is counted over every process that shares a database, chat included. What
a call may cost at most is set aside before it, by our own pessimistic count of its tokens: a cap
is exceeded only by what an endpoint counts beyond that, and by tries that it read and did not
answer, for the calls under way at that moment.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from agent.context import ReasonerUnavailable
from agent.exchange import Ledger
from agent.incident import Usage
from agent.model_reply import tokens

OPENAI = "https://api.openai.com/v1"
LEAST_ANSWER_TOKENS = 200
INCIDENTS_A_DAY = 100
"""What a day's caps allow unless configured: this many incidents that each use their caps up."""
UNTIL = "until 00:00 UTC the rules decide alone"


@dataclass(frozen=True)
class Price:
    """What a provider charges, in dollars for a million tokens."""

    input: float
    output: float
    cached_input: float | None = None
    """For input served from its prompt cache; None: as any other."""
    source: str = ""
    """Where it was read, and when."""
    read_on: date | None = None

    def dollars(self, usage: Usage) -> float:
        """What these tokens cost."""
        cached = min(usage.cached_tokens, usage.input_tokens)
        cached_price = self.input if self.cached_input is None else self.cached_input
        fresh = (usage.input_tokens - cached) * self.input
        return (fresh + cached * cached_price + usage.output_tokens * self.output) / 1_000_000


@dataclass(frozen=True)
class DayCaps:
    """What all incidents and questions of a UTC day may cost together."""

    calls: int = 6 * INCIDENTS_A_DAY
    tokens: int = 40_000 * INCIDENTS_A_DAY
    """Input and output."""
    seconds: float = 60.0 * INCIDENTS_A_DAY
    """Of waiting for the model, calls side by side counted each."""
    dollars: float | None = None

    def refusal(self, spent: Usage, most: Usage) -> str:
        """Why a call that may cost `most` is not made after `spent`; empty if it may be."""
        used, next_call = (u.input_tokens + u.output_tokens for u in (spent, most))
        paid, price = spent.dollars or 0.0, most.dollars or 0.0
        if spent.llm_calls + most.llm_calls > self.calls:
            cap, rest = f"{self.calls:,} model calls", f"{spent.llm_calls:,} were made"
        elif used + next_call > self.tokens:
            cap = f"{self.tokens:,} tokens"
            rest = f"{used:,} are spent, the next call may take {next_call:,}"
        elif spent.seconds + most.seconds > self.seconds:
            cap = f"{self.seconds:,.0f} s of the model"
            rest = f"{spent.seconds:,.0f} s are spent, the next call may take {most.seconds:,.0f} s"
        elif self.dollars is not None and paid + price > self.dollars:
            cap = money(self.dollars)
            rest = f"{money(paid)} are spent, the next call may cost {money(price)}"
        else:
            return ""
        return f"the cap of {cap} a day is met ({rest}); {UNTIL}"


USUAL_DAY = DayCaps()


@dataclass(frozen=True)
class ModelSettings:
    """Which model, where, and what it may cost. Made by `api/settings.py`."""

    model: str
    api_key: str = field(default="", repr=False)
    base_url: str = field(default=OPENAI, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with every request: what a proxy or gateway wants."""
    api_version: str = ""
    """Of Azure's older addresses."""
    proxy: str = field(default="", repr=False)
    ca_file: str = ""
    """PEM file of the authorities that are trusted instead of the usual ones."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """More parameters of each request, such as `temperature`; left out if refused."""
    context_window: int = 0
    """Tokens of question and answer together; 0: learned when the endpoint names it."""
    max_calls: int = 6
    """Model calls per incident."""
    max_tool_calls: int = 12
    """Looks the model may ask for, per incident."""
    max_tokens: int = 40_000
    """Input and output tokens per incident."""
    max_dollars: float | None = None
    """Per incident; only with a price."""
    max_answer_tokens: int = 2_500
    """Output tokens of one call."""
    seconds_per_call: float = 30.0
    idle_seconds: float = 15.0
    """Longest silence in a reply that has begun."""
    seconds_per_incident: float = 60.0
    day: DayCaps = USUAL_DAY
    price: Price | None = None

    def dollars(self, usage: Usage) -> float | None:
        """What these tokens cost; None if the model has no price."""
        return self.price.dollars(usage) if self.price else None


@dataclass
class Budget:
    """What one attempt at an incident, or one question, may still spend on the model."""

    settings: ModelSettings
    ledger: Ledger | None = None
    """Counts the day; None where nobody does, as in a suite."""
    calls: int = 0
    tool_calls: int = 0
    tokens: int = 0
    seconds: float = 0.0
    dollars: float = 0.0
    answers: int = 1
    """Times the usual length of an answer, for a model that thinks first."""
    scale: float = 1.0
    """Tokens as this endpoint counted them last, over our pessimistic estimate."""

    @property
    def calls_left(self) -> int:
        """Model calls."""
        return self.settings.max_calls - self.calls

    @property
    def tool_calls_left(self) -> int:
        """Looks."""
        return self.settings.max_tool_calls - self.tool_calls

    @property
    def tokens_left(self) -> int:
        """Tokens, input and output together."""
        return self.settings.max_tokens - self.tokens

    @property
    def seconds_left(self) -> float:
        """Seconds of waiting for the model and its looks."""
        return self.settings.seconds_per_incident - self.seconds

    def known(self, spent: Usage) -> None:
        """Take over what the ledger says was spent, by a process that crashed for example."""
        self.calls = max(self.calls, spent.llm_calls)
        self.tokens = max(self.tokens, spent.input_tokens + spent.output_tokens)
        self.seconds = max(self.seconds, spent.seconds)
        self.dollars = max(self.dollars, spent.dollars or 0.0)

    def estimate(self, *parts: object) -> int:
        """About how many tokens this endpoint will count for these parts of a request."""
        return int(sum(map(tokens, parts)) * self.scale)

    def spend(self, usage: Usage, estimate: int, unanswered: int = 0) -> None:
        """Price and account for one call, and learn how this endpoint counts.

        `unanswered`: requests before it that were read and not answered; they cost the same.
        """
        if estimate:
            self.scale = min(2.0, max(0.3, self.scale * usage.input_tokens / estimate))
        usage.input_tokens += unanswered * usage.input_tokens
        usage.dollars = self.settings.dollars(usage)
        self.calls += 1
        self.tokens += usage.input_tokens + usage.output_tokens
        self.dollars += usage.dollars or 0.0

    async def reserve(self, request_tokens: int) -> int:
        """How long the answer may be; the day has set the call aside.

        Raises ReasonerUnavailable if a cap is met.
        """
        room = self.answer_tokens(request_tokens)
        if self.ledger is not None:
            most = Usage(
                llm_calls=1,
                input_tokens=request_tokens,
                output_tokens=room,
                seconds=min(self.settings.seconds_per_call, self.seconds_left),
            )
            most.dollars = self.settings.dollars(most)
            await self.ledger.reserve(f"openai:{self.settings.model}", most)
        return room

    def answer_tokens(self, request_tokens: int) -> int:
        """How long the answer may be. Raises ReasonerUnavailable if a cap is met."""
        if self.calls_left <= 0:
            raise ReasonerUnavailable(f"the cap of {self.settings.max_calls} model calls is met")
        if self.seconds_left <= 0:
            raise ReasonerUnavailable(
                f"the cap of {self.settings.seconds_per_incident:g} s for the model is met"
            )
        room = self.tokens_left - request_tokens
        if room < LEAST_ANSWER_TOKENS:
            raise ReasonerUnavailable(
                f"the cap of {self.settings.max_tokens:,} tokens would be exceeded"
            )
        usual = self.settings.max_answer_tokens * self.answers
        return min(room, usual, self._affordable(request_tokens))

    def _affordable(self, request_tokens: int) -> int:
        """Output tokens that the cap of dollars still pays for, after this request."""
        cap, price = self.settings.max_dollars, self.settings.price
        if cap is None or price is None:
            return self.settings.max_tokens
        left = cap - self.dollars
        left -= price.dollars(Usage(input_tokens=request_tokens))
        if left < price.dollars(Usage(output_tokens=LEAST_ANSWER_TOKENS)):
            raise ReasonerUnavailable(
                f"the cap of {money(cap)} for an incident would be exceeded "
                f"({money(self.dollars)} are spent)"
            )
        return int(left * 1_000_000 / price.output) if price.output else self.settings.max_tokens


def money(dollars: float) -> str:
    """As people write it: in cents, with hundredths of a cent where there are any."""
    return re.sub(r"(\.\d\d\d*?)0+$", r"\1", f"${dollars:,.4f}")


def model_calls(usage: Usage) -> str:
    """`1 model call`, `3 model calls`."""
    return f"{usage.llm_calls} model call{'' if usage.llm_calls == 1 else 's'}"


def cost(usage: Usage) -> str:
    """What an investigation took, in one sentence."""
    dollars = "" if usage.dollars is None else f", {money(usage.dollars)}"
    looks = f"{usage.tool_calls} look{'' if usage.tool_calls == 1 else 's'}"
    tokens = f"{usage.input_tokens:,} input and {usage.output_tokens:,} output tokens"
    return f"{looks}, {usage.seconds:.1f} s; {model_calls(usage)}, {tokens}{dollars}."
