"""How big the instance should be: sizing with its arithmetic shown. Never executed."""

import asyncio
import math
from importlib import resources
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tools.catalogue import Arguments
from tools.connection import Connection
from tools.memory import MemoryInfo, memory_info_of
from tools.reading import Measured, NotMeasured, Reading, number
from tools.samples import Samples, growth_noise, take_samples

MIB = 1 << 20
DAY = 86_400
TARGET = 0.70
GROWTH_CAP = 1.0
"""An extrapolation from seconds to days is worth little: at most the peak once more."""
COPY_ON_WRITE = 0.25
"""Reserve while a child saves, as a share of peak; ElastiCache reserves 25 % by default."""
LARGEST_FRAGMENTATION = 1.5
"""More is repaired (active defragmentation, restart), not bought memory for."""
SMALL = 64 * MIB
"""Below this the fragmentation ratio says nothing (a ratio needs a byte floor)."""


class _Size(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str
    memory_bytes: int = Field(gt=0)


class _Provider(BaseModel):
    model_config = ConfigDict(extra="forbid")

    provider: str
    source: str
    checked: str = "not stated"
    sizes: list[_Size] = Field(min_length=1)


class _Catalogue(BaseModel):
    """`instance_sizes.yaml`, or the file that replaces it."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    date: object
    providers: list[_Provider] = Field(min_length=1)


class InstanceSize(Reading):
    """One size of the catalogue (`tools/instance_sizes.yaml`: source and date there)."""

    provider: str
    name: str
    memory_bytes: int
    source: str


class SizingStep(Reading):
    """One line of the arithmetic, e.g. `copy-on-write reserve = 25 % of peak`."""

    name: str
    bytes: int
    how: str


class InstanceResize(Reading):
    """The smallest instances that fit this server's peak, growth and reserves."""

    peak_bytes: int
    growth_bytes_per_day: Measured[float]
    """From the two samples' rate: an extrapolation, marked as such; NotMeasured if it is noise."""
    steps: list[SizingStep]
    needed_bytes: int
    """Instance memory needed."""
    target_utilization: float
    recommended_maxmemory: int
    current_limit: Measured[int]
    limit_source: str
    fits: list[InstanceSize]
    """Smallest that fits, one per provider; empty if none does: shard."""
    artefact: str
    """What a person can use: the provider commands with a placeholder for the instance's name."""
    grows: bool
    """needed_bytes exceeds the current limit."""


class InstanceResizeArguments(Arguments):
    """What the server cannot know, and how far to look ahead."""

    memory_limit: int | None = Field(default=None, gt=0)
    """Bytes it may use when maxmemory is 0: the limit of its container or machine."""
    horizon_days: float = Field(default=30.0, ge=0, le=365)
    """How far growth is extrapolated, in days."""
    seconds: float = Field(default=5.0, ge=1.0, le=60.0)
    """Between the two samples."""
    catalogue: str | None = Field(default=None, max_length=1_000)
    """Path of a YAML file of sizes that replaces `tools/instance_sizes.yaml`."""


async def instance_resize(
    connection: Connection, args: InstanceResizeArguments
) -> InstanceResize | NotMeasured:
    """How much memory the instance needs, in bytes, step by step; the smallest sizes that fit.

    A proposal for a person, never executed. Growth is extrapolated from two samples and capped.
    Source: INFO memory and persistence twice, tools/instance_sizes.yaml.
    """
    samples = await take_samples(connection, args.seconds, "memory", "persistence")
    catalogue = await asyncio.to_thread(read_catalogue, args.catalogue)
    return size_up(samples, args, catalogue)


def size_up(
    samples: Samples, args: InstanceResizeArguments, catalogue: Measured[_Catalogue]
) -> InstanceResize | NotMeasured:
    """The sizing of two samples. Pure."""
    memory = memory_info_of(samples.last, args.memory_limit)
    peak = memory.used_memory_peak
    if isinstance(peak, NotMeasured):
        return peak
    growth = _growth_per_day(samples, number(memory.limit))
    kept = _kept_in_memory(memory, peak, growth, args.horizon_days)
    around = _around_it(memory, samples.last, peak)
    steps = [*kept, *around]
    # Whoever needs more memory is not helped by a smaller maxmemory than there is.
    present = int(number(memory.maxmemory) or 0)
    maxmemory = max(_sum(kept) * 100 // round(TARGET * 100), present)
    needed = max(math.ceil(_sum(steps) / TARGET), maxmemory + _sum(around))
    steps.append(
        SizingStep(
            name="room to spare",
            bytes=needed - _sum(steps),
            how=f"{_worded(_sum(steps))} shall be at most {TARGET:.0%} of the instance, "
            f"and maxmemory not below the present {_worded(present)}",
        )
    )
    if isinstance(catalogue, NotMeasured):
        return catalogue
    fits = _fits(catalogue, needed)
    limit = number(memory.limit)
    grows = limit is not None and needed > limit
    return InstanceResize(
        peak_bytes=peak,
        growth_bytes_per_day=growth,
        steps=steps,
        needed_bytes=needed,
        target_utilization=TARGET,
        recommended_maxmemory=maxmemory,
        current_limit=memory.limit,
        limit_source=memory.limit_source,
        fits=fits,
        artefact=_artefact(fits, needed, maxmemory, grows=grows or limit is None),
        grows=grows,
    )


def _growth_per_day(samples: Samples, limit: float | None) -> Measured[float]:
    growth = samples.growth("used_memory")
    if isinstance(growth, NotMeasured):
        return growth
    noise = growth_noise(limit)
    if growth * samples.seconds < noise:
        return NotMeasured(
            not_measured="growth of used_memory",
            because=f"none beyond noise ({_worded(noise)}) within the {samples.seconds:.0f} s "
            "between the samples",
        )
    return growth * DAY


def _kept_in_memory(
    memory: MemoryInfo, peak: int, growth: Measured[float], days: float
) -> list[SizingStep]:
    """What maxmemory must hold: peak, growth, buffers."""
    if isinstance(growth, NotMeasured):
        grown, how = 0, f"none counted: {growth.because}"
    else:
        grown = round(min(growth * days, peak * GROWTH_CAP))
        how = (
            f"extrapolated from two samples: {_worded(growth)} a day for {days:g} days, "
            f"at most {GROWTH_CAP:.0%} of peak"
        )
    buffers = sum(
        int(number(part) or 0)
        for part in (
            memory.mem_replication_backlog,
            memory.mem_clients_slaves,
            memory.mem_clients_normal,
        )
    )
    reserve = min(buffers, round(peak * COPY_ON_WRITE))
    return [
        SizingStep(name="peak", bytes=peak, how="used_memory_peak"),
        SizingStep(name="growth", bytes=grown, how=how),
        SizingStep(
            name="replication and client buffers",
            bytes=reserve,
            how=f"room for as much again as they hold now ({_worded(buffers)}), "
            f"at most {COPY_ON_WRITE:.0%} of peak",
        ),
    ]


def _around_it(memory: MemoryInfo, info: dict[str, str], peak: int) -> list[SizingStep]:
    """What the machine must hold besides: fragmentation, pages copied while a child saves."""
    used, ratio = number(memory.used_memory), number(memory.mem_fragmentation_ratio)
    if used is None or ratio is None or used < SMALL:
        fragmented, how = 0, f"none counted: below {_worded(SMALL)} in use the ratio says nothing"
    else:
        counted = min(max(ratio, 1.0), LARGEST_FRAGMENTATION)
        fragmented = round(peak * (counted - 1))
        how = (
            f"mem_fragmentation_ratio {ratio:.2f}, counted as {counted:.2f} "
            f"(1 to {LARGEST_FRAGMENTATION:g}): (it - 1) x peak"
        )
    copied = max(_field(info, "rdb_last_cow_size"), _field(info, "aof_last_cow_size"))
    reserve = round(min(max(peak * COPY_ON_WRITE, copied), peak))
    return [
        SizingStep(name="fragmentation", bytes=fragmented, how=how),
        SizingStep(
            name="copy-on-write reserve",
            bytes=reserve,
            how=f"{COPY_ON_WRITE:.0%} of peak, or the last save's {_worded(copied)} if more",
        ),
    ]


def _sum(steps: list[SizingStep]) -> int:
    return sum(step.bytes for step in steps)


def _field(info: dict[str, str], name: str) -> int:
    value = info.get(name, "")
    return int(value) if value.isdecimal() else 0


def _worded(size: float) -> str:
    return f"{size / MIB:,.1f} MiB"


LONGEST_CATALOGUE = 256 * 1024


def read_catalogue(path: str | None = None) -> Measured[_Catalogue]:
    """The sizes on offer. What is wrong with a file is said without quoting it."""
    try:
        if path is None:
            text = resources.files("tools").joinpath("instance_sizes.yaml").read_text("utf-8")
        else:
            text = _own(Path(path))
        return _Catalogue.model_validate(yaml.safe_load(text))
    except (OSError, ValueError, yaml.YAMLError) as error:
        wrong = "not of its shape" if isinstance(error, ValidationError) else type(error).__name__
        return NotMeasured(
            not_measured="catalogue of instance sizes",
            because=f"the file could not be read: {wrong}",
            failure="error",
            remedy="write it like tools/instance_sizes.yaml",
        )


def _own(path: Path) -> str:
    if path.suffix not in (".yaml", ".yml") or path.stat().st_size > LONGEST_CATALOGUE:
        raise ValueError("not a YAML file of moderate size")
    return path.read_text("utf-8")


def _fits(catalogue: _Catalogue, needed: int) -> list[InstanceSize]:
    fits = []
    for provider in catalogue.providers:
        enough = [size for size in provider.sizes if size.memory_bytes >= needed]
        if enough:
            smallest = min(enough, key=lambda size: size.memory_bytes)
            fits.append(
                InstanceSize(
                    provider=provider.provider,
                    name=smallest.name,
                    memory_bytes=smallest.memory_bytes,
                    source=f"{provider.source}; checked {catalogue.date}: {provider.checked}",
                )
            )
    return fits


# A person puts the instance's name in the place of NAME.
_LINES: dict[str, tuple[str, ...]] = {
    "ElastiCache": (
        "aws elasticache modify-replication-group --replication-group-id NAME \\",
        "  --cache-node-type {size} --apply-immediately",
        "# Terraform, aws_elasticache_replication_group.NAME:",
        '  node_type = "{size}"',
    ),
    "MemoryDB": (
        "aws memorydb update-cluster --cluster-name NAME --node-type {size}",
        "# Terraform, aws_memorydb_cluster.NAME:",
        '  node_type = "{size}"',
    ),
    "Memorystore": (
        "gcloud redis instances update NAME --region=REGION --size={gib}  # no cluster: GiB",
        "gcloud redis clusters create NAME-larger --region=REGION --node-type={size} \\",
        "  --shard-count=1 --network=NETWORK  # then migrate: a node type is chosen at creation",
        "# Terraform, google_redis_cluster.NAME:",
        '  node_type = "{enum}"',
    ),
    "Azure Cache": (
        "az redis update --name NAME --resource-group GROUP \\",
        "  --set sku.name={tier} sku.family={family} sku.capacity={capacity}",
    ),
    "plain VM": (
        "aws ec2 stop-instances --instance-ids NAME  # a replica first; fail over before",
        "aws ec2 modify-instance-attribute --instance-id NAME --instance-type Value={size}",
    ),
}


def _artefact(fits: list[InstanceSize], needed: int, maxmemory: int, *, grows: bool) -> str:
    """Commands of the providers. Nothing here is ever run by the service."""
    lines = ["# Put your instance's name in the place of NAME. One of:"]
    if not grows:
        lines.insert(0, f"# The present limit holds {_worded(needed)}: nothing has to grow.")
    for fit in fits:
        lines.append(f"# {fit.provider}: {fit.name} ({fit.memory_bytes / MIB:,.0f} MiB)")
        tier, _, code = fit.name.partition(" ")
        known = {"size": fit.name, "enum": fit.name.upper().replace("-", "_")}
        known |= {"gib": str(math.ceil(needed / 1024 / MIB))}
        known |= {"tier": tier, "family": code[:1], "capacity": code[1:]}
        lines += [line.format(**known) for line in _LINES.get(fit.provider, ())]
    if not fits:
        lines += [f"# No size of the catalogue holds {_worded(needed)}: shard the data."]
    mebibytes = max(math.ceil(needed / MIB), 64)
    lines += [
        "# Kubernetes: the container's memory",
        "kubectl set resources statefulset/NAME -c redis \\",
        f"  --requests=memory={mebibytes}Mi --limits=memory={mebibytes}Mi",
        "# Own configuration, after the memory is there:",
        f"maxmemory {maxmemory}",
    ]
    return "\n".join(lines)
