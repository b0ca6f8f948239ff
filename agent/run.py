"""Starting and resuming the graph."""

from typing import cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from agent.context import Context
from agent.graph import GRAPH_VERSION, Graph, build_graph
from agent.incident import Incident
from agent.steps import State

MOST_STEPS = 200
"""Steps of one run: far above any plan, far below forever."""


async def advance(graph: Graph, context: Context, incident: Incident) -> None:
    """Run the incident from its checkpoint to its end or to the gate.

    The caller holds the target's lease: LangGraph does not keep two runs of a thread apart.
    """
    thread = f"{incident.id}/{incident.attempt}/{GRAPH_VERSION}"
    config: RunnableConfig = {
        "configurable": {"thread_id": thread},
        "recursion_limit": MOST_STEPS,
    }
    snapshot = await graph.aget_state(config)
    start: State | Command[None] | None = State()
    if snapshot.interrupts:
        start = cast("Command[None]", Command(resume=True))
    elif snapshot.tasks:
        # A run was cut off: go on from its checkpoint. `snapshot.next` leaves out a step that is
        # done and whose checkpoint alone is missing: by it such a run would be finished.
        start = None
    elif snapshot.values:
        return  # finished
    await graph.ainvoke(start, config, context=context, durability="sync")


async def investigate(context: Context, incident: Incident) -> Incident:
    """One investigation in memory, up to the gate."""
    await advance(build_graph(InMemorySaver()), context, incident)
    return await context.journal.incident()
