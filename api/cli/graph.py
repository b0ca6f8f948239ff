"""`redis-oncall graph`."""

import typer


def graph() -> None:
    """Print the way of an incident as a Mermaid diagram."""
    from agent.graph import build_graph

    typer.echo(build_graph().get_graph().draw_mermaid())
