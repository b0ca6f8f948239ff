"""The way of an incident, on one page. `redis-oncall graph` draws it."""

from functools import cache
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from agent import steps
from agent.context import Context
from agent.step_spans import told
from agent.steps import State

GRAPH_VERSION = "1"
"""Part of the thread id: another version starts a new attempt from what SQL knows."""

Graph = CompiledStateGraph[State, Context, State, State]


def build_graph(checkpointer: BaseCheckpointSaver[Any] | None = None) -> Graph:
    """Alert to report, with an interrupt at the gate."""
    return _compiled().copy({"checkpointer": checkpointer})


@cache
def _compiled() -> Graph:
    """Once a process: it holds no run's state."""
    graph = StateGraph(State, context_schema=Context)
    graph.add_node("load_runbook", told(steps.load_runbook))
    graph.add_node("observe", told(steps.observe))
    graph.add_node("detect_signals", told(steps.detect_signals))
    graph.add_node("investigate", told(steps.investigate))
    graph.add_node("verify_claims", told(steps.verify_claims))
    graph.add_node("propose", told(steps.propose))
    graph.add_node("gate", told(steps.gate))
    graph.add_node("apply", told(steps.apply))
    graph.add_node("verify_effect", told(steps.verify_effect))
    graph.add_node("roll_back", told(steps.roll_back))
    graph.add_node("report", told(steps.report))

    graph.add_edge(START, "load_runbook")
    graph.add_edge("load_runbook", "observe")
    graph.add_edge("observe", "detect_signals")
    graph.add_edge("detect_signals", "investigate")
    graph.add_edge("investigate", "verify_claims")
    graph.add_conditional_edges("verify_claims", steps.does_evidence_hold)
    graph.add_edge("propose", "gate")
    graph.add_conditional_edges("gate", steps.is_anything_approved)
    graph.add_conditional_edges("apply", steps.was_it_applied)
    graph.add_conditional_edges("verify_effect", steps.did_it_help)
    graph.add_edge("roll_back", "gate")
    graph.add_edge("report", END)
    return graph.compile()
