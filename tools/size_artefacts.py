"""How to order an instance size: what each provider and tool wants to be told. Never run by us."""

import math
from collections.abc import Callable, Sequence

from tools.artefact import (
    Artefact,
    comment,
    conf,
    hcl,
    joined,
    shell,
    terraform,
    yaml_of,
)
from tools.sizes import InstanceSize

MIB, GIB = 1 << 20, 1 << 30
_SAME = "the same in Terraform"
_UNKNOWN_WAY = "(to be ordered in the provider's own console)"


def how_to_order(fits: Sequence[InstanceSize], needed: int, maxmemory: int, *, grows: bool) -> str:
    """Everything below, as one text with placeholders in capitals for what only a person knows."""
    notes = [comment("Put your own in the place of NAME, GROUP and REGION. One of:")]
    if not grows:
        notes.insert(0, comment(f"The present limit holds {worded(needed)}: nothing has to grow."))
    if not fits:
        notes.append(comment(f"No size of the catalogue holds {worded(needed)}: shard the data."))
    return "\n".join(notes) + "\n" + joined(artefacts(fits, needed, maxmemory))


def artefacts(fits: Sequence[InstanceSize], needed: int, maxmemory: int) -> list[Artefact]:
    """One or more a provider whose ways are known, then Kubernetes, Helm and the own machine."""
    found: list[Artefact] = []
    for fit in fits:
        ways = _PROVIDERS.get(fit.provider)
        title = f"{fit.provider}: {fit.name} ({fit.memory_bytes / MIB:,.0f} MiB)"
        found += ways(title, fit.name, needed) if ways else [Artefact(title, "text", _UNKNOWN_WAY)]
    return [*found, *_own(needed, maxmemory)]


def worded(size: float) -> str:
    """Bytes in MiB."""
    return f"{size / MIB:,.1f} MiB"


def _elasticache(title: str, size: str, needed: int) -> list[Artefact]:
    order = shell(
        ("aws", "elasticache", "modify-replication-group", "--replication-group-id", "NAME"),
        ("--cache-node-type", size, "--apply-immediately"),
    )
    changed = terraform(
        "aws_elasticache_replication_group",
        f"node_type         = {hcl(size)}",
        "apply_immediately = true",
    )
    return _both(f"{title}; maxmemory follows from the node type", order, changed)


def _memorydb(title: str, size: str, needed: int) -> list[Artefact]:
    order = shell(
        ("aws", "memorydb", "update-cluster", "--cluster-name", "NAME", "--node-type", size)
    )
    return _both(title, order, terraform("aws_memorydb_cluster", f"node_type = {hcl(size)}"))


def _memorystore(title: str, size: str, needed: int) -> list[Artefact]:
    gib = str(math.ceil(needed / GIB))
    grow = shell(
        ("gcloud", "redis", "instances", "update", "NAME", "--region=REGION", f"--size={gib}")
    )
    create = shell(
        ("gcloud", "redis", "clusters", "create", "NAME-larger", "--region=REGION"),
        (f"--node-type={size}", "--shard-count=1", "--network=NETWORK"),
    )
    node_type = hcl(size.upper().replace("-", "_"))
    return [
        *_both(
            "Memorystore for Redis (no cluster), in whole GiB",
            grow,
            terraform("google_redis_instance", f"memory_size_gb = {gib}"),
        ),
        *_both(
            f"{title}: a node type is chosen at creation; then migrate",
            create,
            terraform("google_redis_cluster", f"node_type = {node_type}"),
        ),
    ]


def _azure_cache(title: str, size: str, needed: int) -> list[Artefact]:
    tier, _, code = size.partition(" ")
    order = shell(
        ("az", "redis", "update", "--name", "NAME", "--resource-group", "GROUP"),
        ("--set", f"sku.name={tier}", f"sku.family={code[:1]}", f"sku.capacity={code[1:]}"),
    )
    changed = terraform(
        "azurerm_redis_cache",
        f"sku_name = {hcl(tier)}",
        f"family   = {hcl(code[:1])}",
        f"capacity = {hcl(code[1:])}",
    )
    return _both(title, order, changed)


def _azure_managed(title: str, size: str, needed: int) -> list[Artefact]:
    order = shell(
        ("az", "redisenterprise", "update", "--cluster-name", "NAME"),
        ("--resource-group", "GROUP", "--sku", size),
    )
    return _both(title, order, terraform("azurerm_managed_redis", f"sku_name = {hcl(size)}"))


def _machine(title: str, size: str, needed: int) -> list[Artefact]:
    stop = shell(("aws", "ec2", "stop-instances", "--instance-ids", "NAME"))
    change = shell(
        ("aws", "ec2", "modify-instance-attribute", "--instance-id", "NAME"),
        ("--instance-type", f"Value={size}"),
    )
    return _both(
        f"{title}; a replica first, and fail over before it",
        f"{stop}\n{change}",
        terraform("aws_instance", f"instance_type = {hcl(size)}"),
    )


def _both(title: str, command: str, changed: str) -> list[Artefact]:
    return [Artefact(title, "shell", command), Artefact(_SAME, "hcl", changed)]


def _own(needed: int, maxmemory: int) -> list[Artefact]:
    memory = f"{max(math.ceil(needed / MIB), 64)}Mi"
    resources = {"requests": {"memory": memory}, "limits": {"memory": memory}}
    patch = {
        "spec": {"template": {"spec": {"containers": [{"name": "redis", "resources": resources}]}}}
    }
    line = conf("maxmemory", str(maxmemory))
    values = {"master": {"resources": resources}, "commonConfiguration": line}
    setting = "{{ name = {name}, value = {value} }},"
    return [
        Artefact(
            "Kubernetes: kubectl patch statefulset NAME --patch-file FILE", "yaml", yaml_of(patch)
        ),
        Artefact(
            "Helm values (Bitnami charts); keep what commonConfiguration has",
            "yaml",
            yaml_of(values),
        ),
        Artefact(
            _SAME,
            "hcl",
            terraform(
                "helm_release",
                "set = [",
                *(
                    "  "
                    + setting.format(name=hcl(f"master.resources.{what}.memory"), value=hcl(memory))
                    for what in ("requests", "limits")
                ),
                "  " + setting.format(name=hcl("commonConfiguration"), value=hcl(line)),
                "]",
            ),
        ),
        Artefact("redis.conf, after the memory is there", "conf", line),
    ]


_PROVIDERS: dict[str, Callable[[str, str, int], list[Artefact]]] = {
    "ElastiCache": _elasticache,
    "MemoryDB": _memorydb,
    "Memorystore": _memorystore,
    "Azure Cache": _azure_cache,
    "Azure Managed Redis": _azure_managed,
    "plain VM": _machine,
}
