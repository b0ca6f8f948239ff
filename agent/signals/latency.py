"""Signals of what makes commands wait: O(N) commands, freeing, a hot key, a script, the host."""

from agent.incident import Culprit
from agent.signals.host import machine
from agent.signals.limits import stalled
from agent.signals.seen import MIB, Finding, Look, Seen, Unmeasured, measured, scaled, signal
from tools.configuration import Configuration
from tools.hotkeys import HotKeys
from tools.latency import LatencyDoctor, LatencyEvents
from tools.memory import MemoryInfo
from tools.reading import number
from tools.scripts import Scripts
from tools.slowlog import SlowCommand, SlowCommandGroup, Slowlog
from tools.stats import CommandStats, ErrorStats, Stats

WHOLE = frozenset(
    {
        "keys", "smembers", "hgetall", "hkeys", "hvals", "lrange", "zrange", "zrevrange",
        "zrangebyscore", "sort", "sort_ro", "sunion", "sinter", "sdiff", "sunionstore",
        "sinterstore", "sdiffstore", "zunionstore", "zinterstore", "bitcount", "bitpos", "bitop",
        "lrem", "linsert", "lpos", "xrange", "xrevrange", "mget", "hmget", "zrevrangebyscore",
        "zrangebylex", "zrevrangebylex", "smismember", "zmscore", "georadius", "geosearch",
    }
)  # fmt: skip
"""Commands that walk over all of something: redis.io, complexity. One that a script sends counts
as itself; a script that is slow by its own loops is somebody's program, and no such command."""
SCRIPTS = frozenset({"eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro"})
SLOW_MICROSECONDS = 10_000
"""slowlog-log-slower-than, redis.conf."""
SLOW_CALL = 5_000.0
CALLS_SOME = 0.1
"""A second: once in ten seconds somebody waits."""
TIMES, RECENT_SECONDS = 3, 300
"""A few times in the last minutes: what was slow last week is no cause of today's alarm."""
BUSY_SHARE = 0.2
"""Of all command time, and below it of all time: on an idle server anything has a large share."""
HOLDS_UP = 0.02
HOT = 100
"""OBJECT FREQ: 199 after 200,000 reads measured (FAILURE_MODES 30); some 50,000 make 100."""
HOT_LEAD = 2.0
"""The counter is about the root of the accesses (evict.c): twice the next is four times as many."""
CPU_BUSY = 0.5
COMMANDS_MANY = 100_000
"""A second: what a core serves without pipelining (redis.io, benchmarks)."""
BUSY_PER_SECOND = 0.2
FORK_PER_GIB = 20_000
"""FAILURE_MODES 32: a fork above 20 ms a GB, in microseconds."""
FORK_FLOOR = 100_000
SWAPPED_RATIO = 0.9
"""FAILURE_MODES 32: resident below used memory; allocators round, so not at one exactly."""
SWAPPED_FLOOR = 64 * MIB
HUGE_PAGES = ("anonymous huge pages", "anonhugepages", "transparent huge pages")
"""Words of LATENCY DOCTOR (latency.c)."""


def _recent(row: SlowCommandGroup, least: int = TIMES) -> bool:
    return row.count >= least and row.newest_age_seconds <= RECENT_SECONDS


@signal("symptom")
def whole_collections_read(seen: Seen) -> Finding | None:
    """A command that walks over everything is called again and again, and everybody waits."""
    slowlog, commands = seen.optional(Slowlog), seen.look(CommandStats)
    for index, row in enumerate(commands.reading.commands):
        at = f"commands.{index}"
        slow = row.usec_per_call >= SLOW_CALL and row.calls_per_second >= CALLS_SOME
        held_up = row.calls_per_second * row.usec_per_call / 1e6
        often = held_up >= HOLDS_UP and row.cpu_share >= BUSY_SHARE
        if row.command in WHOLE and slow and often:
            return Finding(
                "{command} is called at {rate}, {each} a call: {share} of all command time.",
                [
                    commands.fact("command", f"{at}.command", unit="text"),
                    commands.fact("rate", f"{at}.calls_per_second", unit="per_second"),
                    commands.fact("each", f"{at}.usec_per_call", unit="microseconds"),
                    commands.fact("share", f"{at}.cpu_share", unit="ratio"),
                ],
                scaled(row.usec_per_call, SLOW_CALL, 4 * SLOW_CALL),
                _caller(slowlog, row.command),
            )
    return _slow_now(seen.look(Slowlog), WHOLE)


def _slow_now(slowlog: Look[Slowlog], names: frozenset[str]) -> Finding | None:
    for index, row in enumerate(slowlog.reading.groups):
        name = row.command.lower()
        if name in names and _recent(row) and row.longest_microseconds >= 2 * SLOW_MICROSECONDS:
            at = f"groups.{index}"
            return Finding(
                "{command} was slow {times} times, {longest} at worst, the last time {age} ago.",
                [
                    slowlog.fact("command", f"{at}.command", unit="text"),
                    slowlog.fact("times", f"{at}.count", unit="count"),
                    slowlog.fact("longest", f"{at}.longest_microseconds", unit="microseconds"),
                    slowlog.fact("age", f"{at}.newest_age_seconds", unit="seconds"),
                ],
                scaled(row.count, TIMES, 4 * TIMES),
                _caller(slowlog, name),
            )
    return None


def _caller(slowlog: Look[Slowlog] | None, command: str) -> Culprit | None:
    """Whose calls of it, or else of scripts that may send it, took most time."""
    for names in ({command}, SCRIPTS):
        spent: dict[str, int] = {}
        for entry in slowlog.reading.entries if slowlog else []:
            if entry.command.lower() in names and (who := _name(entry)):
                spent[who] = spent.get(who, 0) + entry.microseconds
        if spent:
            return Culprit(kind="client", name=max(spent, key=lambda name: spent[name]))
    return None


def _name(entry: SlowCommand) -> str:
    if entry.client.startswith("?"):  # 6.2: called by a script, which has an entry of its own
        return ""
    return entry.client_name or entry.client


@signal("symptom")
def freeing_stalls(seen: Seen) -> Finding | None:
    """Freeing large keys on the main thread stalls everybody."""
    config, slowlog = seen.optional(Configuration), seen.optional(Slowlog)
    settings = config.reading.parameters if config else {}
    if slowlog is not None:
        finding = _slow_now(slowlog, frozenset({"del", "unlink"}))
        if finding is not None:
            return finding.by(_not_lazy(settings, "lazyfree-lazy-user-del") or finding.culprit)
    latency = seen.look(LatencyEvents)
    text = "Freeing expired or evicted keys stalled the server for {longest}."
    for event, setting in (("expire-del", "expire"), ("eviction-del", "eviction")):
        if (finding := stalled(latency, (event,), text)) is not None:
            return finding.by(_not_lazy(settings, f"lazyfree-lazy-{setting}"))
    if slowlog is None:
        seen.look(Slowlog)
    return None


def _not_lazy(settings: dict[str, str], name: str) -> Culprit | None:
    return Culprit(kind="config", name=name) if settings.get(name) == "no" else None


@signal("trait")
def lazy_freeing_off(seen: Seen) -> Finding | None:
    """Large keys are freed on the main thread."""
    config = seen.look(Configuration)
    for name in ("lazyfree-lazy-user-del", "lazyfree-lazy-expire"):
        if config.reading.parameters.get(name) == "no":
            setting = config.fact("setting", f"parameters.{name}", unit="text")
            return Finding("Keys are freed on the main thread: lazy freeing is {setting}.",
                           [setting])  # fmt: skip
    return None


@signal("trait")
def one_key_is_hot(seen: Seen) -> Finding | None:
    """One key is used far more than any other."""
    keys = seen.look(HotKeys)
    rows = measured(keys.reading.hottest)
    if not rows or rows[0].frequency < HOT:
        return None
    following = rows[1].frequency if len(rows) > 1 else 0
    if rows[0].frequency < HOT_LEAD * following:
        return None
    facts = [
        keys.fact("key", "hottest.0.key", unit="text"),
        keys.fact("frequency", "hottest.0.frequency", unit="count"),
    ]
    text = "{key} is used most: the server's counter stands at {frequency}"
    if len(rows) > 1:
        facts.append(keys.fact("next", "hottest.1.frequency", unit="count"))
        text += ", that of the next key at {next}"
    return Finding(f"{text} (the scale is logarithmic).", facts, 1.0,
                   Culprit(kind="key", name=rows[0].key))  # fmt: skip


@signal("trend")
def cpu_busy(seen: Seen) -> Finding | None:
    """The server is busy: half of its core, or as many commands as a core is known to serve."""
    stats = seen.look(Stats)
    if measured(stats.reading.commands_per_second) >= COMMANDS_MANY:
        rate = stats.fact("rate", "commands_per_second", unit="per_second")
        return Finding("The server answers {rate} commands.", [rate])
    if measured(stats.reading.cpu_cores) < CPU_BUSY:
        return None
    return Finding("The server keeps {cores} cores busy.", [stats.fact("cores", "cpu_cores")])


@signal("symptom")
def script_blocks_server(seen: Seen) -> Finding | None:
    """A script has run for so long that everybody else is refused."""
    scripts = seen.optional(Scripts)
    if scripts is not None and scripts.reading.blocked_by:
        facts = [scripts.fact("error", "blocked_by", unit="text")]
        text = "Every command is answered {error}: a script is running"
        if isinstance(scripts.reading.running_script, str) and scripts.reading.running_script:
            facts.append(scripts.fact("script", "running_script", unit="text"))
            text += " ({script})"
        return Finding(f"{text}.", facts)
    errors = seen.look(ErrorStats)
    for index, row in enumerate(errors.reading.errors):
        if row.code == "BUSY" and row.per_second >= BUSY_PER_SECOND:
            return Finding(
                "Commands are answered {code} at {rate}: scripts run for too long.",
                [
                    errors.fact("code", f"errors.{index}.code", unit="text"),
                    errors.fact("rate", f"errors.{index}.per_second", unit="per_second"),
                ],
                0.8,
            )
    return None


@signal("symptom")
def memory_swapped(seen: Seen) -> Finding | None:
    """Much of the memory in use is not resident: the host has swapped it out."""
    memory = seen.look(MemoryInfo)
    used = measured(memory.reading.used_memory)
    resident = measured(memory.reading.used_memory_rss)
    # Replies sent by reference count as clients' memory, not as the process's (Valkey 9).
    clients = number(memory.reading.mem_clients_normal) or 0
    # 6.2 allocates the backlog at once and touches it as it fills.
    backlog = number(memory.reading.mem_replication_backlog) or 0
    away = used - clients - backlog - resident
    if away < SWAPPED_FLOOR or resident > SWAPPED_RATIO * used or _swap_is_empty(seen):
        return None
    return Finding(
        "{used} are in use and only {resident} are resident: the rest is swapped out.",
        [
            memory.fact("used", "used_memory", unit="bytes"),
            memory.fact("resident", "used_memory_rss", unit="bytes"),
        ],
        scaled(1 - resident / used, 1 - SWAPPED_RATIO, 0.3),
    )


def _swap_is_empty(seen: Seen) -> bool:
    """Its host says so, where that is known: then nothing can have been swapped out."""
    try:
        used = number(machine(seen).reading.swap_used_bytes)
    except Unmeasured:
        return False
    return used is not None and used < SWAPPED_FLOOR


@signal("symptom")
def fork_is_slow(seen: Seen) -> Finding | None:
    """Forking takes far longer than the memory explains."""
    stats, memory = seen.look(Stats), seen.look(MemoryInfo)
    fork, used = measured(stats.reading.latest_fork_usec), measured(memory.reading.used_memory)
    if fork < FORK_FLOOR or fork < FORK_PER_GIB * used / (1024 * MIB):
        return None
    return Finding(
        "The last fork stalled the server for {fork}, with {used} in use.",
        [
            stats.fact("fork", "latest_fork_usec", unit="microseconds"),
            memory.fact("used", "used_memory", unit="bytes"),
        ],
        scaled(fork, FORK_FLOOR, 5 * FORK_FLOOR),
    )


@signal("trait")
def huge_pages_in_use(seen: Seen) -> Finding | None:
    """The server's memory is in transparent huge pages."""
    doctor = seen.look(LatencyDoctor)
    said = doctor.reading.text.lower()
    if not any(words in said for words in HUGE_PAGES):
        return None
    fork = seen.look(Stats).fact("fork", "latest_fork_usec", unit="microseconds")
    return Finding("LATENCY DOCTOR saw anonymous huge pages; the last fork took {fork}.", [fork])
