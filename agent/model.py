"""The only caller of OpenAI: Chat Completions of any compatible endpoint, within hard caps."""

import asyncio
import email.utils
import json
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent.budget import Budget, ModelSettings
from agent.context import ReasonerUnavailable
from agent.keeping import Asked, Transcript
from agent.model_reply import Answer, Message, read_answer
from agent.redaction import redact
from tools.reading import printable

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

ToolSchema = dict[str, Any]

TRIES = 3
"""Per call: the first one and two more after a 429 or a 5xx."""
FIRST_PAUSE_SECONDS = 0.5
MOST_INCIDENTS = 1_000
"""How many incidents' spending is remembered in this process."""
LARGEST_REPLY = 2_000_000


class Model:
    """An OpenAI-compatible endpoint. Raises ReasonerUnavailable with a plain reason."""

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings
        self.name = f"openai:{settings.model}"
        self._client: AsyncOpenAI | None = None
        self._opening = asyncio.Lock()
        self._budgets: OrderedDict[str, Budget] = OrderedDict()
        self._refused: set[str] = set()
        """Optional parameters this endpoint has refused."""

    def budget(self, incident: str) -> Budget:
        """The budget of one incident (or chat turn), remembered while this process lives."""
        budget = self._budgets.setdefault(incident, Budget(self.settings))
        self._budgets.move_to_end(incident)
        while len(self._budgets) > MOST_INCIDENTS:
            self._budgets.popitem(last=False)
        return budget

    async def ask(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSchema],
        budget: Budget,
        must_call: str = "",
        transcript: Transcript | None = None,
    ) -> Answer:
        """One call. `must_call`: the one function that has to be called, strictly by its schema.

        Kept in the transcript, also if it failed.
        """
        transcript = transcript or Transcript()
        estimate = budget.estimate(messages, tools)
        room = await budget.reserve(estimate)
        asked = Asked(list(messages), tools)
        started = time.monotonic()
        try:
            reply = await self._within_time(asked, budget, must_call, room)
            answer = read_answer(reply, estimate)
            budget.spend(answer.usage, estimate)
        except ReasonerUnavailable as unavailable:
            budget.calls += 1
            seconds = time.monotonic() - started
            await transcript.add(self.name, asked, seconds, None, str(unavailable))
            raise
        finally:
            budget.seconds += time.monotonic() - started
        await transcript.add(self.name, asked, time.monotonic() - started, answer)
        return answer

    async def close(self) -> None:
        """Close connections. Repeatable."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _within_time(self, asked: Asked, budget: Budget, must_call: str, room: int) -> Any:
        seconds = min(self.settings.seconds_per_call, budget.seconds_left)
        deadline = time.monotonic() + seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._try(asked, must_call, room, deadline)
        except TimeoutError as error:
            raise ReasonerUnavailable(f"the model did not answer within {seconds:.0f} s") from error

    async def _try(self, asked: Asked, must_call: str, room: int, deadline: float) -> Any:
        import openai

        request = {
            "model": self.settings.model,
            "messages": asked.messages,
            **_functions(asked.tools),
        }

        client = await self._open()
        pause = FIRST_PAUSE_SECONDS
        tries = 0
        while True:
            options = asked.options = self._options(must_call, room)
            try:
                raw = await client.chat.completions.with_raw_response.create(**request, **options)
                return _decoded(raw.http_response.content)
            except openai.APITimeoutError as error:
                raise TimeoutError from error
            except openai.APIConnectionError as error:
                raise ReasonerUnavailable("the model's endpoint cannot be reached") from error
            except openai.APIStatusError as error:
                if self._without_what_was_refused(error, options):
                    continue
                tries += 1
                pause = _pause_before_retry(error, tries, pause, deadline - time.monotonic())
            except openai.OpenAIError as error:
                raise ReasonerUnavailable(
                    f"the model's client failed: {type(error).__name__}"
                ) from error
            await asyncio.sleep(pause)
            pause *= 2

    def _options(self, must_call: str, room: int) -> dict[str, Any]:
        """Parameters that not every endpoint takes, without those this one has refused."""
        limit = (
            "max_tokens" if "max_completion_tokens" in self._refused else "max_completion_tokens"
        )
        options: dict[str, Any] = {limit: room}
        if must_call:
            options["tool_choice"] = {"type": "function", "function": {"name": must_call}}
            options["parallel_tool_calls"] = False
        return {name: value for name, value in options.items() if name not in self._refused}

    def _without_what_was_refused(
        self, error: "APIStatusError", options: Mapping[str, Any]
    ) -> bool:
        """Whether the endpoint named an optional parameter it does not know: go on without."""
        if error.status_code not in (400, 422):
            return False
        text = str(error)
        named = {name for name in options if name in text}
        self._refused |= named
        return bool(named)

    async def _open(self) -> "AsyncOpenAI":
        async with self._opening:
            if self._client is None:
                # Importing openai and loading certificates block: not on the event loop.
                self._client = await asyncio.to_thread(self._connect)
            return self._client

    def _connect(self) -> "AsyncOpenAI":
        from openai import AsyncOpenAI

        client = AsyncOpenAI(
            api_key=self.settings.api_key or "not-needed",
            base_url=self.settings.base_url,
            default_headers=dict(self.settings.headers),
            max_retries=0,
            timeout=self.settings.seconds_per_call,
        )
        # The library fills these from the environment, which only `api/settings.py` reads.
        client.organization = client.project = None
        return client


def _functions(tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"tools": list(tools)} if tools else {}


def _pause_before_retry(
    error: "APIStatusError", tries: int, pause: float, seconds_left: float
) -> float:
    """How long to wait before the next try. Raises ReasonerUnavailable if there is none."""
    status = error.status_code
    reason = f"the model's endpoint answered {status}"
    if status in (401, 403):
        raise ReasonerUnavailable(f"{reason}: the API key was refused") from error
    if status == 404:
        raise ReasonerUnavailable(f"{reason}: no such model or path") from error
    if status != 429 and status < 500:
        raise ReasonerUnavailable(f"{reason}: {_worded(error)}") from error
    if error.code == "insufficient_quota":
        raise ReasonerUnavailable(f"{reason}: the quota is spent") from error
    if tries >= TRIES:
        raise ReasonerUnavailable(f"{reason}, {tries} times") from error
    wait = max(pause, _retry_after(error.response.headers.get("retry-after", "")))
    if wait >= seconds_left:
        raise ReasonerUnavailable(
            f"{reason} and asks to wait {wait:.0f} s: more than is left"
        ) from error
    return wait


def _retry_after(value: str) -> float:
    """Seconds to wait, from a number or an HTTP date; 0 for anything else."""
    try:
        return max(0.0, float(value)) if value else 0.0
    except ValueError:
        pass
    try:
        at = email.utils.parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return 0.0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _worded(error: Exception) -> str:
    """An endpoint's error: it may echo the key or the prompt, so bounded and redacted."""
    return printable(redact(str(error)), 200)


def _decoded(content: bytes) -> Any:
    if len(content) > LARGEST_REPLY:
        raise ReasonerUnavailable("the model's reply is too large")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ReasonerUnavailable("the model's endpoint did not answer in JSON") from error
