"""The whole suite: every recorded incident, worked by a reasoner, and scored.

The rules and scripted models only compute, so they get processes; models are waited for, so they
get concurrency. Neither changes an answer: results come in the order of the incidents, and each
incident is worked as if it were the only one.
"""

import asyncio
import multiprocessing
import os
import platform
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

from agent.budget import ModelSettings
from agent.claims import UNCATALOGUED
from agent.functions import read_functions, submit_function
from agent.model import Model
from agent.reasoner import OpenAIReasoner
from agent.runbook import Library
from agent.runbook_library import load_library
from evals import alone, scripted
from evals.model_use import model_use
from evals.repeats import repeats
from evals.run import failed, guarded, work
from evals.score import Result, summary
from evals.truth import RecordedIncident
from tools.reads import READS

Report = dict[str, Any]
Part = Literal["all", "tuning", "held-back"]
RULES, OPENAI = "rules", "openai"
FEW = 8
"""Fewer incidents than this are not worth the start of processes."""
ABREAST = 4
"""Incidents that a model is asked about at the same time, unless told."""

OnDone = Callable[[Result], None]
Answer = Callable[[RecordedIncident, Library], Awaitable[Result]]
"""A reasoner, as the suite sees it: whatever goes wrong is part of the result."""
ByModel = Callable[[RecordedIncident, Model, Library], Awaitable[Result]]


async def _in_our_graph(recorded: RecordedIncident, model: Model, library: Library) -> Result:
    return await work(recorded, library, OpenAIReasoner(model, library))


MODEL_REASONERS: dict[str, ByModel] = {OPENAI: _in_our_graph, alone.NAME: alone.work_alone}
REASONERS = (RULES, *MODEL_REASONERS)


def part_of(chosen: Sequence[RecordedIncident], part: Part) -> list[RecordedIncident]:
    """All of them, those to tune on, or those that nobody looks at while tuning."""
    return [one for one in chosen if part == "all" or one.held_back == (part == "held-back")]


def run_suite(
    chosen: Sequence[RecordedIncident],
    reasoner: str = RULES,
    *,
    settings: ModelSettings | None = None,
    library: Library | None = None,
    repeat: int = 1,
    jobs: int | None = None,
    on_done: OnDone | None = None,
) -> Report:
    """Work these incidents, `repeat` times, and score them: the JSON of `evals run`.

    `jobs`: processes for the rules and for scripted models (default: the cores), incidents at a
    time for other models. The report is that of the first run; what the others changed is in its
    `repeats`. Raises ValueError if the reasoner is unknown, lacks its model, or cannot take it.
    """
    if reasoner not in REASONERS:
        raise ValueError(f"reasoner: '{reasoner}' is not one of {', '.join(REASONERS)}")
    books = library or load_library()
    tell = on_done or (lambda _: None)
    started = time.monotonic()
    if reasoner == RULES:
        name, run = RULES, partial(by_computing, chosen, books, jobs, tell)
    else:
        if settings is None:
            raise ValueError(f"the reasoner '{reasoner}' needs a model")
        name = f"{reasoner}:{settings.model}"
        run = partial(by_model, MODEL_REASONERS[reasoner], chosen, settings, books, jobs, tell)
        if script := scripted.script_named(settings.model):
            if reasoner != OPENAI:
                raise ValueError(f"{settings.model} answers only the reasoner '{OPENAI}'")
            answer = partial(scripted.work_by_script, name=script)
            run = partial(by_computing, chosen, books, jobs, tell, answer)
    first = run()
    report = summary(name, first, time.monotonic() - started) | {"machine": machine()}
    if settings is not None and reasoner == OPENAI:
        report |= {
            "model": scripted.label(settings.model),
            "model_use": model_use([result.exchanges for result in first], functions(books))
            | {"tokens_are": scripted.tokens_of(settings.model)},
        }
    if repeat > 1:
        report["repeats"] = repeats([first, *(run() for _ in range(repeat - 1))])
    return report


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def functions(library: Library) -> dict[str, Any]:
    """Every function a model is offered, by name."""
    offered = [*read_functions(READS), submit_function([*library.causes(), *UNCATALOGUED])]
    return {str(one["function"]["name"]): one for one in offered}


def machine() -> str:
    """What it ran on."""
    return f"{cores()} cores, {platform.machine()}, Python {platform.python_version()}"


# -- a model: concurrency -------------------------------------------------------------------


def by_model(
    answer: ByModel,
    chosen: Sequence[RecordedIncident],
    settings: ModelSettings,
    library: Library,
    abreast: int | None,
    tell: OnDone,
) -> list[Result]:
    """By a model; a new one each time, since it remembers what an incident has cost."""

    async def run() -> list[Result]:
        model = Model(settings)
        room = asyncio.Semaphore(abreast or ABREAST)

        async def one(recorded: RecordedIncident) -> Result:
            async with room:
                result = await guarded(recorded, answer(recorded, model, library))
            tell(result)
            return result

        try:
            return await asyncio.gather(*map(one, chosen))
        finally:
            await model.close()

    return asyncio.run(run())


# -- what computes: processes ---------------------------------------------------------------


def by_computing(
    chosen: Sequence[RecordedIncident],
    library: Library,
    processes: int | None,
    tell: OnDone,
    answer: Answer = work,
) -> list[Result]:
    """By pure computing: in processes if there are enough incidents to share out."""
    processes = min(processes or cores(), len(chosen))
    if processes <= 1 or len(chosen) < FEW:
        return asyncio.run(_one_by_one(chosen, library, tell, answer))
    done = _shared_out(chosen, library, processes, tell, answer)
    # A process that died took the work of the others with it: now each has a process of its own.
    for one in chosen:
        if one.id not in done:
            done |= _shared_out([one], library, 1, tell, answer)
        if one.id not in done:
            done[one.id] = failed(one, "its process died")
            tell(done[one.id])
    return [done[one.id] for one in chosen]


async def _one_by_one(
    chosen: Sequence[RecordedIncident], library: Library, tell: OnDone, answer: Answer
) -> list[Result]:
    results = []
    for one in chosen:
        results.append(result := await guarded(one, answer(one, library)))
        tell(result)
    return results


def _shared_out(
    chosen: Sequence[RecordedIncident],
    library: Library,
    processes: int,
    tell: OnDone,
    answer: Answer,
) -> dict[str, Result]:
    """Results by incident; those of a process that died are missing."""
    done: dict[str, Result] = {}
    with _pool(processes, library, answer) as pool:
        with _interrupts_held():  # the processes inherit it: only we are interrupted
            started = {pool.submit(_in_process, one): one for one in chosen}
        for future in as_completed(started):
            if (result := _result_of(future, started[future])) is not None:
                done[result.id] = result
                tell(result)
    return done


def _result_of(future: "Future[Result]", one: RecordedIncident) -> Result | None:
    try:
        return future.result()
    except BrokenProcessPool:
        return None
    except Exception as error:  # noqa: BLE001 - a result that cannot be sent is a wrong answer
        return failed(one, f"{type(error).__name__}: {error}")


STOPPED_SECONDS = 5.0
"""Longest wait for a process that was told to stop."""


@contextmanager
def _pool(processes: int, library: Library, answer: Answer) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes: no lock of ours and no seed of hashing is inherited.

    Each is given library and answer once. With every task they would fill the pipe to the
    processes, and a full pipe that nobody reads any more holds an interrupted Python 3.11 forever
    (https://github.com/python/cpython/issues/94777).
    """
    fresh = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, fresh, initializer=_given, initargs=(library, answer))
    results = pool._result_queue  # shutdown forgets it
    try:
        yield pool
    except BaseException:
        thread = pool._executor_manager_thread
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
            process.join(STOPPED_SECONDS)
        # The pool's thread may wait for the rest of a result whose process was just stopped, and
        # the exit for that thread: with no writer left, it reads the end instead.
        results._writer.close()  # type: ignore[attr-defined]
        # Python 3.11's exit wakes a thread that closes its pipe at the same time, and complains.
        if thread is not None:
            thread.join(STOPPED_SECONDS)  # type: ignore[attr-defined]
        raise
    finally:
        pool.shutdown()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_in_hand: tuple[Library, Answer] | None = None
"""What this process was given to work with."""


def _given(library: Library, answer: Answer) -> None:
    global _in_hand
    _in_hand = library, answer


def _in_process(one: RecordedIncident) -> Result:
    if _in_hand is None:
        raise RuntimeError("this process was given no library")
    library, answer = _in_hand
    return asyncio.run(guarded(one, answer(one, library)))
