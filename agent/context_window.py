"""Whether an endpoint says that a request was too long, and how much it would take. Pure."""

import re
from typing import Any

from agent.retrying import EndpointError

LEAST_WINDOW = 256
LARGEST_WINDOW = 20_000_000
_CODES = ("context_length_exceeded", "exceed_context_size_error", "string_above_max_length")
# The wordings of OpenAI and Azure; vLLM; llama.cpp; LM Studio; Mistral; Gemini; Anthropic; and of
# limits on tokens a minute that one request exceeds alone (OpenAI, Groq).
_TOO_LONG = re.compile(
    r"(?i)maximum context length|maximum model length|context (?:size|length|window) (?:of|is)"
    r"|available context size|greater than the context length|context length of only"
    r"|exceeds? (?:the )?(?:model'?s )?(?:maximum )?context|n_ctx|context window"
    r"|exceeds the maximum number of tokens|prompt is too long|too large for model"
    r"|request too large|reduce the length of the (?:messages|prompt|input)"
)
_SIZE = re.compile(
    r"(?i)(?:(?:maximum )?(?:context|model) (?:length|size|window)(?: of| is|:)?(?: only)?"
    r"|n_ctx\"?|tokens allowed|\blimit:?)[\s(:=]{0,4}(\d[\d,]{2,10})"
    r"|(\d{3,9}) maximum context|tokens > (\d{3,9})"
)


def says_too_long(error: EndpointError) -> bool:
    """Whether the request did not fit, in any of the wordings we know."""
    if error.status == 413:
        return True
    if error.status not in (400, 422, 429, 500):
        return False
    said = error.said
    return any(code in said for code in _CODES) or bool(_TOO_LONG.search(said))


def window_named(error: EndpointError) -> int | None:
    """The tokens that would fit, question and answer together, if the error says."""
    found = _member(error.body, "n_ctx")
    if found is None and (match := _SIZE.search(error.said)):
        found = int(next(filter(None, match.groups())).replace(",", ""))
    return found if found is not None and LEAST_WINDOW <= found <= LARGEST_WINDOW else None


def _member(body: Any, name: str) -> int | None:
    """A number in an error's body, at its top or in its `error`."""
    if not isinstance(body, dict):
        return None
    value = body.get(name)
    return value if isinstance(value, int) else _member(body.get("error"), name)
