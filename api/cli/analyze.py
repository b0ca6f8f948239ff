"""`redis-oncall analyze`: what the keys are, and nothing else."""

from typing import Annotated, Literal

import typer

from api.cli.evals import AsJson


def analyze(
    url: Annotated[
        str, typer.Argument(help="redis://, rediss:// or unix:// URL, or a target's name.")
    ],
    mode: Annotated[
        Literal["exact", "sampled"], typer.Option(help="Every key, or a random sample.")
    ] = "exact",
    pace: Annotated[
        Literal["gentle", "fast"],
        typer.Option(help="fast takes a core of a replica or of an idle server."),
    ] = "gentle",
    every_key: Annotated[
        bool, typer.Option("--every-key", help="Type, TTL, idle time, length of every key.")
    ] = False,
    hot: Annotated[
        bool, typer.Option("--hot", help="Keys that are in use all along, without an LFU policy.")
    ] = False,
    lengths: Annotated[
        bool,
        typer.Option("--lengths", help="Advice from lengths, also where it resets idle times."),
    ] = False,
    seconds: Annotated[float, typer.Option(min=0.1, max=86_400, help="Longest walk.")] = 3_600,
    resume: Annotated[str, typer.Option(help="Go on where an exact walk was stopped.")] = "",
    as_json: AsJson = False,
) -> None:
    """Largest keys, prefixes, TTLs, encodings and what would save memory; read-only.

    Ctrl-C ends it with what was seen so far, and how to go on.
    """
    from api.cli.analysis import Wish, analyze_url

    wish = Wish(mode, pace, every_key, hot, lengths, seconds, resume)
    analyze_url(url, wish, as_json=as_json)
