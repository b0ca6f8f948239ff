"""The only caller of OpenAI: Chat Completions of any compatible endpoint, within hard caps.

How the endpoint wants to be asked (`endpoint_quirks`), how long its context window is, and
whether it is alive (`breaker`) is learned here and remembered as long as the process lives.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.breaker import Breaker
from agent.budget import LEAST_ANSWER_TOKENS, Budget, ModelSettings
from agent.context import ReasonerUnavailable
from agent.context_window import says_too_long, window_named
from agent.endpoint import Endpoint
from agent.endpoint_quirks import PLAINEST, Manners, Question, lesson, parameters
from agent.incident import Usage
from agent.keeping import Asked, Transcript
from agent.model_reply import Answer, Message, read_answer
from agent.retrying import (
    EndpointError,
    Filtered,
    TooLong,
    Unavailable,
    pause_before_retry,
)
from agent.telemetry import SILENT, Telemetry

if TYPE_CHECKING:
    from agent.veil import Veil

ToolSchema = dict[str, Any]

MOST_INCIDENTS = 1_000
"""How many incidents' spending is remembered in this process."""
UNHEEDED = 2
"""Replies without a call or JSON, one after the other, that show an endpoint ignores functions."""
_TOLD = {
    "gen_ai.usage.input_tokens": "prompt_tokens",
    "gen_ai.usage.output_tokens": "completion_tokens",
}
LONGER = 4
"""Times the usual length for a model that used all of it up with thinking."""


class Model:
    """An OpenAI-compatible endpoint. Raises ReasonerUnavailable with a plain reason."""

    def __init__(
        self,
        settings: ModelSettings,
        veil: "Veil | None" = None,
        telemetry: Telemetry = SILENT,
    ) -> None:
        self.settings = settings
        self._telemetry = telemetry
        self.veil = veil
        """Whoever talks to this model hashes names with it; None: they are sent as they are."""
        self.name = f"openai:{settings.model}"
        self.manners = Manners()
        """How this endpoint wants to be asked."""
        self.breaker = Breaker()
        self._window = settings.context_window
        self._endpoint = Endpoint(settings)
        self._budgets: OrderedDict[str, Budget] = OrderedDict()
        self._tried_plainly = False
        self._unheeded = 0
        self._thinks_long = False

    def budget(self, attempt: str) -> Budget:
        """The budget of one attempt at an incident, remembered while this process lives."""
        budget = self._budgets.setdefault(attempt, Budget(self.settings))
        self._budgets.move_to_end(attempt)
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

        Kept in the transcript, also if it failed. Raises TooLong if the request does not fit the
        endpoint's context window.
        """
        transcript = transcript or Transcript()
        estimate = budget.estimate(messages, tools)
        room = await self._room(budget, estimate)
        asked = Asked(
            Question(
                self.settings.model, messages, tools, must_call, room, options=self.settings.options
            ),
            estimate,
            self._window,
        )
        started = time.monotonic()
        try:
            reply = await self._told(asked, budget)
        except ReasonerUnavailable as unavailable:
            seconds = time.monotonic() - started
            budget.seconds += seconds
            used = Usage(llm_calls=1, input_tokens=asked.unanswered * estimate)
            if not isinstance(unavailable, TooLong):  # bounded by what can be left out
                budget.spend(used, 0)
            await transcript.add(self.name, asked, seconds, None, str(unavailable), used)
            raise
        seconds = time.monotonic() - started
        budget.seconds += seconds
        answer = read_answer(reply, estimate, [str(tool["function"]["name"]) for tool in tools])
        budget.spend(answer.usage, estimate, asked.unanswered)
        self._learn_from(answer, asked)
        await transcript.add(self.name, asked, seconds, answer)
        return answer

    async def close(self) -> None:
        """Close connections. Repeatable."""
        await self._endpoint.close()

    async def _room(self, budget: Budget, estimate: int) -> int:
        """Tokens of the answer; the call is set aside.

        Raises TooLong, or ReasonerUnavailable if a cap is met or the endpoint is left alone.
        """
        left = self._window - estimate if self._window else budget.settings.max_tokens
        if left < LEAST_ANSWER_TOKENS:
            raise TooLong(self._window)
        budget.answers = LONGER if self._thinks_long else 1
        budget.answer_tokens(estimate)  # a cap that is met must not use up the breaker's probe
        self.breaker.check()
        return min(left, await budget.reserve(estimate))

    async def _told(self, asked: Asked, budget: Budget) -> dict[str, Any]:
        about = {"gen_ai.operation.name": "chat", "gen_ai.request.model": self.settings.model}
        with self._telemetry.span("model call", about) as span:
            reply = await self._within_time(asked, budget)
            used = reply.get("usage")
            counts = used if isinstance(used, dict) else {}
            for name, key in _TOLD.items():
                if isinstance(count := counts.get(key), int):
                    span.set({name: count})
        return reply

    async def _within_time(self, asked: Asked, budget: Budget) -> dict[str, Any]:
        """The reply. Whatever happens counts for or against the endpoint."""
        seconds = min(self.settings.seconds_per_call, budget.seconds_left)
        deadline = time.monotonic() + seconds
        try:
            async with asyncio.timeout(seconds):
                reply = await self._try(asked, deadline)
        except TimeoutError as error:
            reason = f"the model did not answer within {seconds:.0f} s"
            if seconds >= self.settings.seconds_per_call / 2:
                self.breaker.failed(reason)  # else it was hardly given the time
            asked.unanswered += 1
            raise ReasonerUnavailable(reason) from error
        except Unavailable as unavailable:
            self.breaker.failed(str(unavailable), unavailable.seconds)
            raise
        except (TooLong, Filtered):
            self.breaker.succeeded()
            raise
        self.breaker.succeeded()
        return reply

    async def _try(self, asked: Asked, deadline: float) -> dict[str, Any]:
        tries = 0
        plain: Manners | None = None
        while True:
            asked.manners = plain or self.manners
            asked.sent = parameters(asked.question, asked.manners)
            try:
                reply = await self._endpoint.send(asked.sent)
            except EndpointError as error:
                if says_too_long(error):
                    self._answer_in_the_rest(asked, error)
                    continue
                if learned := lesson(self.manners, error, asked.sent):
                    self.manners = learned
                    continue
                if plain is None and self._may_be_asked_plainly(error):
                    plain = PLAINEST
                    continue
                tries += 1
                asked.unanswered += error.begun
                await asyncio.sleep(pause_before_retry(error, tries, deadline - time.monotonic()))
            else:
                self.manners = plain or self.manners
                return reply

    def _may_be_asked_plainly(self, error: EndpointError) -> bool:
        """An error that names nothing: once in a process, the plainest request is tried."""
        unclear = error.status in (400, 422) and not self._tried_plainly
        self._tried_plainly |= unclear
        return unclear and self.manners != PLAINEST

    def _answer_in_the_rest(self, asked: Asked, error: EndpointError) -> None:
        """Ask for an answer no longer than the window leaves. Raises TooLong if that is too little.

        An endpoint counts question and answer together, and now it may have said up to what.
        """
        named = window_named(error)
        if named:
            self._window = min(named, self._window or named)
        rest = self._window - asked.estimate
        if not named or not LEAST_ANSWER_TOKENS <= rest < asked.question.room:
            raise TooLong(self._window or None) from error
        asked.question = replace(asked.question, room=rest)

    def _learn_from(self, answer: Answer, asked: Asked) -> None:
        """Does it heed functions, and does it need longer answers because it thinks?"""
        if answer.cut and not answer.calls and not answer.text.strip():
            self._thinks_long = True
        if answer.cut or answer.refusal or "tools" not in asked.sent:
            return
        self._unheeded = 0 if answer.calls or "{" in answer.text else self._unheeded + 1
        if self._unheeded >= UNHEEDED:
            self.manners = replace(self.manners, functions=False)
