"""What the model may cost: hard caps for one incident, kept in code. No calls here."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.context import ReasonerUnavailable
from agent.incident import Usage
from agent.model_reply import tokens

OPENAI = "https://api.openai.com/v1"
LEAST_ANSWER_TOKENS = 200


@dataclass(frozen=True)
class ModelSettings:
    """Which model, where, and what it may cost. Read from the environment by `api/settings.py`."""

    model: str
    api_key: str = field(default="", repr=False)
    base_url: str = field(default=OPENAI, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    max_calls: int = 6
    """Model calls per incident."""
    max_tool_calls: int = 12
    """Looks the model may ask for, per incident."""
    max_tokens: int = 40_000
    """Input and output tokens per incident."""
    max_answer_tokens: int = 2_500
    """Output tokens of one call."""
    seconds_per_call: float = 30.0
    seconds_per_incident: float = 60.0


@dataclass
class Budget:
    """What one incident may still spend on the model."""

    settings: ModelSettings
    calls: int = 0
    tool_calls: int = 0
    tokens: int = 0
    seconds: float = 0.0
    attempt: int = 1
    """Each attempt at an incident that a person starts gets the caps anew."""
    scale: float = 1.0
    """Tokens as this endpoint counted them last, over our pessimistic estimate."""

    @property
    def calls_left(self) -> int:
        """Model calls."""
        return self.settings.max_calls * self.attempt - self.calls

    @property
    def tool_calls_left(self) -> int:
        """Looks."""
        return self.settings.max_tool_calls * self.attempt - self.tool_calls

    @property
    def tokens_left(self) -> int:
        """Tokens, input and output together."""
        return self.settings.max_tokens * self.attempt - self.tokens

    @property
    def seconds_left(self) -> float:
        """Seconds of waiting for the model and its looks."""
        return self.settings.seconds_per_incident * self.attempt - self.seconds

    def known(self, usage: Usage, attempt: int) -> None:
        """Take over what the journal says was spent, by a process that crashed for example."""
        self.attempt = attempt
        self.calls = max(self.calls, usage.llm_calls)
        self.tokens = max(self.tokens, usage.input_tokens + usage.output_tokens)

    def estimate(self, *parts: object) -> int:
        """About how many tokens this endpoint will count for these parts of a request."""
        return int(sum(map(tokens, parts)) * self.scale)

    def spend(self, usage: Usage, estimate: int) -> None:
        """Account for one answered call, and learn how this endpoint counts."""
        self.calls += 1
        self.tokens += usage.input_tokens + usage.output_tokens
        if estimate:
            self.scale = min(2.0, max(0.3, self.scale * usage.input_tokens / estimate))

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
        return min(room, self.settings.max_answer_tokens)
