"""What a model cost the incidents of a suite: calls, tokens, dollars, seconds. Pure."""

import bisect
import json
import os.path
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agent.exchange import Exchange

Functions = Mapping[str, Any]
"""Schemas by name: an exchange holds only the names of the functions that were offered."""


def model_use(incidents: Sequence[Sequence[Exchange]], functions: Functions) -> dict[str, Any]:
    """The section `model_use` of a report: of each incident its exchanges, as they were sent.

    Tokens are those that the endpoint reports; seconds are those spent waiting for it.
    """
    every = [exchange for exchanges in incidents for exchange in exchanges]
    calls = [exchange.usage.input_tokens for exchange in every if exchange.reply is not None]
    whole = [sum(_tokens(exchange) for exchange in exchanges) for exchanges in incidents]
    dollars = [one.usage.dollars for one in every if one.usage.dollars is not None]
    return {
        "calls_an_incident": _spread([len(exchanges) for exchanges in incidents]),
        "input_tokens_in_a_call": _spread(calls),
        "tokens_an_incident": _spread(whole),
        "cacheable_share": cacheable_share(incidents, functions),
        "cached_share": _share(sum(one.usage.cached_tokens for one in every), sum(calls)),
        "dollars": round(sum(dollars), 6) if dollars else None,
        "seconds_added": _spread([sum(one.seconds for one in each) for each in incidents]),
        "failed_calls": sum(exchange.reply is None for exchange in every),
    }


def cacheable_share(incidents: Sequence[Sequence[Exchange]], functions: Functions) -> float | None:
    """Share of the input that begins like an earlier request of any incident.

    That is the most a prompt cache could serve that was empty before the suite: caches match
    prefixes, of the functions first and of the messages then.
    """
    served = total = 0
    earlier: list[str] = []
    for exchanges in incidents:
        for request in _requests(exchanges, functions):
            at = bisect.bisect(earlier, request)
            near = earlier[max(at - 1, 0) : at + 1]
            served += max((len(_in_common(request, one)) for one in near), default=0)
            total += len(request)
            earlier.insert(at, request)
    return _share(served, total)


def _in_common(one: str, other: str) -> str:
    return os.path.commonprefix([one, other])  # noqa: RUF071 - of characters, no paths


def _requests(exchanges: Iterable[Exchange], functions: Functions) -> Iterable[str]:
    """Whole requests as texts; an exchange holds only what its conversation had not sent before."""
    messages: list[Any] = []
    for exchange in exchanges:
        messages = messages[: exchange.earlier_messages] + exchange.messages
        offered = [functions.get(name, name) for name in exchange.tools]
        yield json.dumps([offered, *messages], ensure_ascii=False)


def _tokens(exchange: Exchange) -> int:
    return exchange.usage.input_tokens + exchange.usage.output_tokens


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Median and maximum."""
    if not values:
        return {}
    return {"median": round(statistics.median(values), 3), "max": round(max(values), 3)}
