"""Each step of the graph as a span of the run's telemetry."""

from functools import wraps
from typing import Any, Protocol

from langgraph.errors import GraphBubbleUp
from langgraph.runtime import Runtime

from agent.context import Context
from agent.steps import State


class Step(Protocol):
    """A node of the graph."""

    __name__: str

    async def __call__(self, state: State, runtime: Runtime[Context]) -> dict[str, Any]:
        """What changed."""


def told(step: Step) -> Step:
    """The same step, told of. To wait at the gate is no failure."""

    @wraps(step)
    async def run(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
        with runtime.context.telemetry.span(f"node {step.__name__}"):
            try:
                return await step(state, runtime)
            except GraphBubbleUp as waiting:
                waits = waiting
        raise waits

    return run
