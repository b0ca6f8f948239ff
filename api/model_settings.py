"""The `model:` section of the configuration: how a language model is asked, and its cost."""

from datetime import date
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from agent.budget import OPENAI, DayCaps, ModelSettings, Price

Dollars = Annotated[float, Field(gt=0, le=1_000_000)]
Tokens = Annotated[int, Field(ge=1, le=10_000_000_000)]
Seconds = Annotated[float, Field(gt=0, le=1_000_000)]
_USUAL = ModelSettings("")
_OURS = frozenset(
    {
        "messages", "model", "n", "parallel_tool_calls", "response_format", "stream",
        "stream_options", "tool_choice", "tools", "max_tokens", "max_completion_tokens",
    })  # fmt: skip


def _free(options: dict[str, Any]) -> dict[str, Any]:
    if taken := sorted(_OURS & set(options)):
        raise ValueError(f"{taken[0]} is set by redis-oncall for each request; take it out")
    return options


class _Entry(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )


class CallCaps(_Entry):
    """One call."""

    answer_tokens: Tokens = _USUAL.max_answer_tokens
    seconds: Seconds = _USUAL.seconds_per_call
    idle_seconds: Seconds = _USUAL.idle_seconds
    """Longest silence in a reply that has begun."""


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
    """How it is asked, caps and prices. Which model it is, and where, the environment says."""

    hash_names: bool = False
    """Keys, clients, users, groups, hosts and targets go to the model by other names."""
    per_call: CallCaps = CallCaps()
    per_incident: IncidentCaps = IncidentCaps()
    per_day: DayEntry = DayEntry()
    prices: dict[str, PriceEntry] = Field(default_factory=dict, max_length=1_000)
    """By the model's name, as in OPENAI_MODEL."""
    headers: dict[str, SecretStr] = Field(default_factory=dict, max_length=40)
    """Sent with every request, for a proxy or gateway."""
    options: Annotated[dict[str, Any], AfterValidator(_free)] = Field(
        default_factory=dict, max_length=40
    )
    """More parameters of each request, such as `temperature` or `reasoning_effort`."""
    context_window: int | None = Field(default=None, ge=1_024, le=20_000_000)
    """Tokens of question and answer together; without it, learned from the endpoint's errors."""

    def day(self) -> DayCaps:
        """The caps of a day."""
        return DayCaps(**self.per_day.model_dump())

    def unpriced(self, model: str) -> str:
        """What to do about a cap of dollars that nobody can count; empty if there is none."""
        capped = {"per_incident": self.per_incident.dollars, "per_day": self.per_day.dollars}
        cap = next((name for name, dollars in capped.items() if dollars is not None), "")
        if model in self.prices or not cap:
            return ""
        return (
            f"model.{cap}.dollars: {model} has no price, so dollars cannot be counted; add it "
            "under model.prices with input, output (dollars for a million tokens), source and "
            "date, or take the cap away and keep those of tokens"
        )

    def settings(self, model: str, **where: str) -> ModelSettings:
        """What the model's client is told. `where`: the address, as ModelSettings has it."""
        price = self.prices.get(model)
        return ModelSettings(
            model=model,
            **where,
            headers={name: value.get_secret_value() for name, value in self.headers.items()},
            options=self.options,
            context_window=self.context_window or 0,
            max_calls=self.per_incident.calls,
            max_tool_calls=self.per_incident.looks,
            max_tokens=self.per_incident.tokens,
            max_dollars=self.per_incident.dollars,
            max_answer_tokens=self.per_call.answer_tokens,
            seconds_per_call=self.per_call.seconds,
            idle_seconds=self.per_call.idle_seconds,
            seconds_per_incident=self.per_incident.seconds,
            day=self.day(),
            price=price.price() if price else None,
        )


def where(
    base_url: str, api_version: str, proxy: str, no_proxy: str, ca_file: str
) -> dict[str, str]:
    """The endpoint's address, as ModelSettings has it, from what the environment says.

    Raises ValueError that names the variable. Values may be secret.
    """
    base_url = base_url or OPENAI
    if not (base_url.startswith(("http://", "https://")) and urlsplit(base_url).netloc):
        raise ValueError("OPENAI_BASE_URL: use an http:// or https:// URL")
    proxy = _proxy_for(base_url, proxy, no_proxy)
    if proxy and not proxy.startswith(("http://", "https://")):
        raise ValueError("HTTPS_PROXY: use an http:// proxy, or name the endpoint in NO_PROXY")
    if ca_file and not Path(ca_file).is_file():
        raise ValueError("SSL_CERT_FILE: there is no such file; name a PEM file or unset it")
    return {"base_url": base_url, "api_version": api_version, "proxy": proxy, "ca_file": ca_file}


def _proxy_for(base_url: str, proxy: str, no_proxy: str) -> str:
    """The proxy; none for plain http, for this machine and for what NO_PROXY names."""
    parts = urlsplit(base_url)
    host = (parts.hostname or "").lower()
    without = [name.strip().lstrip("*.").lower() for name in no_proxy.split(",") if name.strip()]
    direct = any(host == name or host.endswith(f".{name}") for name in (*without, "localhost"))
    if parts.scheme != "https" or direct or "" in without or host.startswith(("127.", "::1")):
        return ""
    return proxy if "://" in proxy or not proxy else f"http://{proxy}"
