"""The same configuration change for a server that is configured elsewhere.

What the managed services let one change is theirs to say: where a parameter was not found among
those a service lists, this says so instead of a command.
"""

import json

from tools.artefact import Artefact, comment, conf, hcl, joined, shell, terraform, yaml_of

_FIXED_ON_ELASTICACHE = {
    "maxmemory": "maxmemory follows from the node type and reserved-memory-percent: choose a "
    "larger node type instead",
    "client-output-buffer-limit replica": "the limit for replicas follows from the node type",
}
"""Source: the parameter tables of the ElastiCache user guide (Modifiable: No)."""
_ON_MEMORYSTORE = frozenset(
    {
        "activedefrag", "lazyfree-lazy-eviction", "lazyfree-lazy-expire", "lazyfree-lazy-user-del",
        "maxmemory-policy",
    }
)  # fmt: skip
"""Of those we set, what docs.cloud.google.com/memorystore/docs/redis/redis-configs lists."""
_ON_AZURE = frozenset({"maxmemory-policy"})
"""Of those we set, what azurerm_redis_cache knows as redis_configuration."""


def artefact(parameter: str, value: str) -> str:
    """For redis.conf, Helm, Terraform and the commands of providers, as one text."""
    return joined(config_artefacts(parameter, value))


def config_artefacts(parameter: str, value: str) -> list[Artefact]:
    """One or more for each place where a server may be configured."""
    line = conf(parameter, value)
    return [
        Artefact("redis.conf", "conf", line),
        Artefact(
            "Helm values (Bitnami charts); keep what commonConfiguration has",
            "yaml",
            yaml_of({"commonConfiguration": line}),
        ),
        *_amazon(parameter, value),
        *_google(parameter, value),
        *_azure(parameter, value),
    ]


def _amazon(parameter: str, value: str) -> list[Artefact]:
    kind = value.partition(" ")[0]
    named = f"{parameter} {kind}" if parameter == "client-output-buffer-limit" else parameter
    title = "AWS ElastiCache and MemoryDB"
    if named in _FIXED_ON_ELASTICACHE:
        return [Artefact(title, "text", comment(_FIXED_ON_ELASTICACHE[named]))]
    pairs = _group_parameters(parameter, value)
    content = json.dumps(
        [{"ParameterName": name, "ParameterValue": setting} for name, setting in pairs]
    )
    blocks = [
        line
        for name, setting in pairs
        for line in ("parameter {", f"  name  = {hcl(name)}", f"  value = {hcl(setting)}", "}")
    ]
    return [
        Artefact(
            "AWS ElastiCache: its parameter group",
            "shell",
            shell(
                ("aws", "elasticache", "modify-cache-parameter-group"),
                ("--cache-parameter-group-name", "NAME"),
                ("--parameter-name-values", content),
            ),
        ),
        Artefact(
            "AWS MemoryDB: its parameter group",
            "shell",
            shell(
                ("aws", "memorydb", "update-parameter-group", "--parameter-group-name", "NAME"),
                ("--parameter-name-values", content),
            ),
        ),
        Artefact(
            "the same in Terraform (or aws_memorydb_parameter_group)",
            "hcl",
            terraform("aws_elasticache_parameter_group", *blocks),
        ),
    ]


def _group_parameters(parameter: str, value: str) -> list[tuple[str, str]]:
    parts = value.split()
    if parameter != "client-output-buffer-limit" or len(parts) != 4:
        return [(parameter, value)]
    kind, hard, soft, seconds = parts
    prefix = f"{parameter}-{kind}"
    return [
        (f"{prefix}-hard-limit", hard),
        (f"{prefix}-soft-limit", soft),
        (f"{prefix}-soft-seconds", seconds),
    ]


def _google(parameter: str, value: str) -> list[Artefact]:
    title = "Google Memorystore"
    if parameter not in _ON_MEMORYSTORE:
        said = f"{parameter} was not found among what Memorystore lets one change"
        return [Artefact(title, "text", comment(said))]
    order = shell(
        ("gcloud", "redis", "instances", "update", "NAME", "--region=REGION"),
        (f"--update-redis-config={parameter}={value}",),
    )
    changed = f"redis_configs = {{ {hcl(parameter)} = {hcl(value)} }}"
    return [
        Artefact(title, "shell", order),
        Artefact("the same in Terraform", "hcl", terraform("google_redis_instance", changed)),
    ]


def _azure(parameter: str, value: str) -> list[Artefact]:
    title = "Azure Cache"
    if parameter not in _ON_AZURE:
        said = f"{parameter} was not found among what Azure Cache lets one change"
        return [Artefact(title, "text", comment(said))]
    order = shell(
        ("az", "redis", "update", "--name", "NAME", "--resource-group", "GROUP"),
        ("--set", f"redisConfiguration.{parameter}={value}"),
    )
    changed = ["redis_configuration {", f"  {parameter.replace('-', '_')} = {hcl(value)}", "}"]
    return [
        Artefact(title, "shell", order),
        Artefact("the same in Terraform", "hcl", terraform("azurerm_redis_cache", *changed)),
    ]
