"""The `model:` section of the configuration: what a language model may cost, and its prices."""

from datetime import date
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from agent.budget import DayCaps, ModelSettings, Price

Dollars = Annotated[float, Field(gt=0, le=1_000_000)]
Tokens = Annotated[int, Field(ge=1, le=10_000_000_000)]
Seconds = Annotated[float, Field(gt=0, le=1_000_000)]
_USUAL = ModelSettings("")


class _Entry(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )


class CallCaps(_Entry):
    """One call."""

    answer_tokens: Tokens = _USUAL.max_answer_tokens
    seconds: Seconds = _USUAL.seconds_per_call


class IncidentCaps(_Entry):
    """One attempt at an incident, or one question in chat."""

    calls: int = Field(default=_USUAL.max_calls, ge=1, le=100)
    looks: int = Field(default=_USUAL.max_tool_calls, ge=0, le=100)
    """Reads of the server that the model may ask for."""
    tokens: Tokens = _USUAL.max_tokens
    """Input and output."""
    seconds: Seconds = _USUAL.seconds_per_incident
    dollars: Dollars | None = None


class DayEntry(_Entry):
    """All incidents and questions of a UTC day, in every process that shares the database."""

    calls: int = Field(default=_USUAL.day.calls, ge=1, le=10_000_000)
    tokens: Tokens = _USUAL.day.tokens
    seconds: Annotated[float, Field(gt=0, le=100_000_000)] = _USUAL.day.seconds
    dollars: Dollars | None = None


class PriceEntry(_Entry):
    """Dollars for a million tokens, and where and when that was read: prices change."""

    input: float = Field(ge=0, le=100_000)
    output: float = Field(ge=0, le=100_000)
    cached_input: float | None = Field(default=None, ge=0, le=100_000)
    """What input from the provider's prompt cache costs; without it, as any other."""
    source: str = Field(min_length=1, max_length=500)
    date: date

    def price(self) -> Price:
        """For the budget."""
        return Price(self.input, self.output, self.cached_input, self.source, self.date)


class ModelEntry(_Entry):
    """Caps and prices. Which model it is, and where, the environment says."""

    per_call: CallCaps = CallCaps()
    per_incident: IncidentCaps = IncidentCaps()
    per_day: DayEntry = DayEntry()
    prices: dict[str, PriceEntry] = Field(default_factory=dict, max_length=1_000)
    """By the model's name, as in OPENAI_MODEL."""

    def day(self) -> DayCaps:
        """The caps of a day."""
        return DayCaps(**self.per_day.model_dump())

    def unpriced(self, model: str) -> str:
        """The cap of dollars that cannot be kept for want of a price; empty if there is none."""
        if model in self.prices:
            return ""
        capped = {"per_incident": self.per_incident.dollars, "per_day": self.per_day.dollars}
        return next((f"{name}.dollars" for name, cap in capped.items() if cap is not None), "")

    def settings(self, model: str, api_key: str, base_url: str) -> ModelSettings:
        """What the model's client is told."""
        price = self.prices.get(model)
        return ModelSettings(
            model=model,
            api_key=api_key,
            base_url=base_url,
            max_calls=self.per_incident.calls,
            max_tool_calls=self.per_incident.looks,
            max_tokens=self.per_incident.tokens,
            max_dollars=self.per_incident.dollars,
            max_answer_tokens=self.per_call.answer_tokens,
            seconds_per_call=self.per_call.seconds,
            seconds_per_incident=self.per_incident.seconds,
            day=self.day(),
            price=price.price() if price else None,
        )
