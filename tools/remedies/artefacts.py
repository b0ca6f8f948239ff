"""The same configuration change for a server that is configured elsewhere."""

_NOT_ON_ELASTICACHE = {
    "maxmemory": "maxmemory follows from the node type and reserved-memory-percent: choose a "
    "larger node type instead",
}


def artefact(parameter: str, value: str) -> str:
    """redis.conf line, Helm values and parameter group, where CONFIG SET is refused or reverted."""
    return "\n".join(
        (
            "# redis.conf",
            f"{parameter} {value}",
            "",
            "# Helm values (Bitnami redis and valkey charts)",
            "commonConfiguration: |-",
            f"  {parameter} {value}",
            "",
            "# AWS ElastiCache / MemoryDB",
            _parameter_group(parameter, value),
        )
    )


def _parameter_group(parameter: str, value: str) -> str:
    if parameter in _NOT_ON_ELASTICACHE:
        return f"# {_NOT_ON_ELASTICACHE[parameter]}"
    pairs = " ".join(
        f'"ParameterName={name},ParameterValue={setting}"'
        for name, setting in _group_parameters(parameter, value)
    )
    return (
        "aws elasticache modify-cache-parameter-group "
        f"--cache-parameter-group-name <group> --parameter-name-values {pairs}"
    )


def _group_parameters(parameter: str, value: str) -> list[tuple[str, str]]:
    if parameter != "client-output-buffer-limit":
        return [(parameter, value)]
    kind, hard, soft, seconds = value.split()
    prefix = f"{parameter}-{kind}"
    return [
        (f"{prefix}-hard-limit", hard),
        (f"{prefix}-soft-limit", soft),
        (f"{prefix}-soft-seconds", seconds),
    ]
