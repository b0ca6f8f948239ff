"""A function-calling conversation with hard caps: look, look again, submit."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from agent.budget import Budget
from agent.context import ReasonerUnavailable
from agent.digest import one_evidence, untrusted
from agent.exchange import Purpose
from agent.functions import Described, FunctionSchema, offered, read_functions
from agent.json_in_text import objects_in
from agent.keeping import Keep, Transcript
from agent.model import Model
from agent.model_reply import Answer, Message, ToolCall
from agent.redaction import redact
from agent.retrying import TooLong
from tools.reading import Evidence, printable

MOST_AT_ONCE = 8
"""Looks run from one reply of the model."""
MOST_CALLS_IN_A_REPLY = 32
LONGEST_ERROR = 900
USUAL_ANSWER = 1_000
"""Tokens of a submission."""
SHARES = (0.5, 0.25, 0.1)
"""Of the usual size of evidence, tried in turn for a context window that is too small."""
DECLINED = (
    "These are measurements of our own server, and all that is asked for is a diagnosis of them. "
)

T = TypeVar("T")
Look = Callable[[str, dict[str, Any]], Awaitable[Evidence]]
LookOrRead = Callable[[str, dict[str, Any]], Awaitable[Evidence | str]]
"""A text is no evidence: a page of a runbook."""


@dataclass
class Conversation(Generic[T]):
    """Runs until the model submits something acceptable, or a cap is met."""

    model: Model
    budget: Budget
    messages: list[Message]
    submission: FunctionSchema
    accept: Callable[[dict[str, Any]], T]
    """The submission from its arguments. Raises ValueError with what is wrong, for the model."""
    look: LookOrRead | None
    tools: Mapping[str, Described]
    keep: Keep
    """Called with every request to the model, failed ones too."""
    purpose: Purpose = "investigation"
    shorter: Callable[[float], list[Message]] | None = None
    """The opening messages anew, with evidence and runbooks cut to this share of their usual size:
    for a context window that is too small for them."""
    _silent: bool = field(default=False, init=False)
    """The last reply called nothing."""
    _refusal: str = field(default="", init=False)
    """Why the model declined, the first time."""
    _compactions: int = field(default=0, init=False)
    """How often the conversation was made shorter."""
    _opening: int = field(default=0, init=False)
    """How many messages there were at first."""
    _briefs: dict[str, str] = field(default_factory=dict, init=False)
    """What to leave of a tool's message: the evidence without its reading."""

    @property
    def _submit(self) -> str:
        return str(self.submission["function"]["name"])

    async def run(self) -> T:
        """What was submitted and accepted. Raises ReasonerUnavailable."""
        transcript = Transcript(self.keep, self.purpose)
        self._opening = len(self.messages)
        while True:
            last = self._is_last_turn()
            offered = self._offered(last)
            must_call = self._submit if last else ""
            try:
                answer = await self.model.ask(
                    self.messages, offered, self.budget, must_call, transcript
                )
            except TooLong:
                if not self._compact():
                    raise
                continue
            submitted, wrong = self._submitted(answer)
            if submitted is not None:
                return submitted
            if self.budget.calls_left <= 0 or (answer.refusal and self._refusal):
                raise ReasonerUnavailable(_gave_up(answer, wrong))
            self._silent = not answer.calls
            self._refusal = self._refusal or answer.refusal
            if answer.calls or answer.text.strip():  # an empty message is refused by some
                self.messages.append(answer.as_message())
            self.messages += await self._replies(answer, wrong)

    def _offered(self, last: bool = False) -> list[FunctionSchema]:
        """The same in every turn where a cache gains by it; at last only the submission else.

        Functions come first in what a cache compares: an endpoint that calls what it is told to
        call gets the same ones also when there is nothing left to do but submit.
        """
        whole = [*read_functions(self.tools), self.submission]
        room = self.budget.tokens_left - self.budget.estimate(self.messages, whole)
        obeys = self.model.manners.functions and self.model.manners.choice == "named"
        same = obeys and self.look is not None and room > 2 * USUAL_ANSWER
        return whole if not last or (same and not self._compactions) else [self.submission]

    def _is_last_turn(self) -> bool:
        """Whether there is nothing left to do but submit."""
        used_up = self.budget.calls_left <= 1 or self.budget.tool_calls_left <= 0
        # Each turn sends the whole conversation again: is there room for two more?
        next_turns = 2 * (self.budget.estimate(self.messages, self._offered()) + USUAL_ANSWER)
        cramped = self.budget.tokens_left < next_turns or self._compactions > len(SHARES)
        return used_up or self._silent or self.look is None or cramped

    def _compact(self) -> bool:
        """Make the conversation shorter, a little more each time; False: there is no more to."""
        while self._compactions <= len(SHARES):
            before = list(self.messages)
            self._compactions += 1
            self._leave_out(self._compactions)
            if self.messages != before or self._compactions > len(SHARES):
                return True
        return False

    def _leave_out(self, step: int) -> None:
        """First what looks showed that the model has read, then of everything."""
        unread = len(self.messages) if step > 1 else self._unread()
        self.messages = [
            message | {"content": self._briefs.get(str(message["content"]), message["content"])}
            if message["role"] == "tool" and at < unread
            else message
            for at, message in enumerate(self.messages)
        ]
        if step > 1 and self.shorter is not None:
            opening = self.shorter(SHARES[step - 2])
            self.messages[: self._opening] = opening
            self._opening = len(opening)

    def _unread(self) -> int:
        """Where the messages begin that the model has not answered yet."""
        answered = [at for at, each in enumerate(self.messages) if each["role"] == "assistant"]
        return answered[-1] if answered else 0

    def _submitted(self, answer: Answer) -> tuple[T | None, str]:
        """The accepted submission, or what is wrong with the one that was made."""
        wrong = ""
        made = self._submissions(answer)
        if answer.calls and len({call.arguments for call in made}) > 1:
            return None, "your reply held several submissions that differ: make one"
        for call in made:
            try:
                return self.accept(call.parsed()), ""
            except ValueError as error:
                wrong = _worded(error)
        if answer.cut:
            wrong = (
                "your reply was cut off at the limit of its length: submit fewer, shorter claims"
            )
        return None, wrong

    def _submissions(self, answer: Answer) -> list[ToolCall]:
        """The submissions in a reply; some models answer in the text instead, best at last."""
        called = [call for call in answer.calls if call.name == self._submit]
        if not answer.calls:
            written = reversed(objects_in(answer.text))
            called += [ToolCall("", self._submit, json.dumps(value)) for value in written]
        return called

    async def _replies(self, answer: Answer, wrong: str) -> list[Message]:
        """One message for every tool call, whatever became of it; else a request to submit."""
        if not answer.calls:
            text = f"That cannot be used: {wrong}. " if wrong else ""
            text = DECLINED if answer.refusal else text
            return [{"role": "user", "content": f"{text}Call {self._submit} now."}]
        runnable = self._runnable(answer.calls)
        texts: dict[int, str] = await self._looks(runnable)
        return [
            {
                "role": "tool",
                "tool_call_id": call.id,
                "content": texts.get(at) or self._why_not(call, wrong),
            }
            for at, call in enumerate(answer.calls)
        ]

    def _runnable(self, calls: list[ToolCall]) -> dict[int, tuple[str, dict[str, Any]]]:
        """The looks that may be taken, by their place in the reply."""
        runnable: dict[int, tuple[str, dict[str, Any]]] = {}
        room = min(MOST_AT_ONCE, self.budget.tool_calls_left)
        for at, call in enumerate(calls[:MOST_CALLS_IN_A_REPLY]):
            if call.name not in self.tools or len(runnable) >= room:
                continue
            try:
                runnable[at] = (call.name, offered(call.parsed()))
            except ValueError:
                continue
        return runnable if self.look is not None else {}

    async def _looks(self, wanted: dict[int, tuple[str, dict[str, Any]]]) -> dict[int, str]:
        self.budget.tool_calls += len(wanted)
        started = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, self.budget.seconds_left)):
                texts = await asyncio.gather(*(self._look(*one) for one in wanted.values()))
        except TimeoutError as error:
            cap = self.budget.settings.seconds_per_incident
            raise ReasonerUnavailable(f"the cap of {cap:g} s for the model is met") from error
        finally:
            self.budget.seconds += time.monotonic() - started
        return dict(zip(wanted, texts, strict=True))

    async def _look(self, tool: str, arguments: dict[str, Any]) -> str:
        if self.look is None:  # pragma: no cover - nothing is runnable without
            return "not run"
        try:
            evidence = await self.look(tool, arguments)
        except ValidationError as error:
            return f"not run: {_worded(error)}"
        if isinstance(evidence, str):
            return evidence
        shown, kept = one_evidence(evidence), f"{evidence.id} was kept"
        text = untrusted(kept, shown)
        brief = {name: part for name, part in shown.items() if name != "reading"}
        self._briefs[text] = untrusted(f"{kept}; its reading was shown before", brief)
        return text

    def _why_not(self, call: ToolCall, wrong: str) -> str:
        """Why a call was not run. The model reads it, so it says what to do instead."""
        if call.name == self._submit:
            return f"not accepted: {wrong or 'one submission is enough'}. Correct it and submit."
        if call.name not in self.tools:
            known = ", ".join(self.tools)
            return f"not run: there is no tool '{printable(call.name, 60)}'. There are: {known}"
        try:
            call.parsed()
        except ValueError as error:
            return f"not run: {_worded(error)}"
        return f"not run: the budget of looks is spent. Call {self._submit} now."


def _worded(error: Exception) -> str:
    """An error for the model: which field, what is wrong."""
    if isinstance(error, ValidationError):
        text = "; ".join(
            f"{'.'.join(str(part) for part in each['loc']) or 'arguments'}: {each['msg']}"
            for each in error.errors(include_url=False, include_input=False)[:6]
        )
    else:
        text = str(error)
    return printable(redact(text), LONGEST_ERROR)


def _gave_up(answer: Answer, wrong: str) -> str:
    if answer.refusal:
        return f"the model refused to answer: {printable(redact(answer.refusal), 200)}"
    if answer.cut:
        return "the model's reply was cut off at the limit of its length"
    if wrong:
        return f"the model's submission cannot be used: {wrong}"
    if answer.calls:
        return "the model kept asking for tools and submitted nothing"
    return "the model submitted nothing" if answer.text.strip() else "the model's reply was empty"
