"""The whole suite with SmolLM2-135M beside the rules: `python -m tests.llama.whole 2 80 20`.

Seconds for the model in an incident; in every twentieth so many that it can answer. Each
incident gets a new client: one whose breaker has opened would not be asked any more.
"""

import asyncio
import json
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from agent.model import Model
from evals.run import work
from evals.score import summary
from evals.truth import incidents
from tests.llama.test_llama import LIBRARY, SLACK_SECONDS, Timed, outcome, settings

COMPARED = ("top1", "culprit", "false_positive_rate", "harmful_proposed", "hallucinated_evidence")


async def both(url: str, short: float, patient: float, every: int) -> dict[str, object]:
    """What came of it, by the model and by the rules."""
    with_model, alone, seconds, replies, other = [], [], [], [], []
    for number, recorded in enumerate(incidents()):
        cap = short if number % every else patient
        model = Model(replace(settings(url, cap), max_calls=1 + (number % every == 0)))
        model.manners = replace(model.manners, functions=False)
        mind = Timed(model, LIBRARY)
        ours, theirs = await work(recorded, LIBRARY, mind), await work(recorded, LIBRARY)
        await model.close()
        with_model.append(ours)
        alone.append(theirs)
        seconds.append((mind.seconds, cap))
        replies.append(ours.usage.output_tokens)
        if outcome(ours) != outcome(theirs):
            other.append(f"{recorded.id}: {ours.got} and {theirs.got}")
        sys.stderr.write(f"{recorded.id} {mind.seconds:.1f} of {cap:g} s, {replies[-1]} tokens\n")
    scores = {
        name: {key: summary(name, results, 0.0)[key] for key in COMPARED}
        for name, results in (("model", with_model), ("rules", alone))
    }
    return {
        "n": len(with_model),
        "scores": scores,
        "decided otherwise": other,
        "facts": sum(len(one.facts) for one in with_model),
        "facts that do not hold": sum(
            not (fact.exists and fact.recomputes) for one in with_model for fact in one.facts
        ),
        "answered": sum(bool(tokens) for tokens in replies),
        "seconds added, median": round(statistics.median(spent for spent, _ in seconds), 2),
        "seconds beyond the cap, most": round(max(spent - cap for spent, cap in seconds), 2),
        "slack": SLACK_SECONDS,
    }


def main(short: str, patient: str, every: str) -> None:
    """Start the server, run, print."""
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert server.stdout
    url = f"{server.stdout.readline().decode().strip()}/v1"
    try:
        found = asyncio.run(both(url, float(short), float(patient), int(every)))
    finally:
        server.kill()
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
