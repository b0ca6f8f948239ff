"""What people hand to other tools: read by those tools' own parsers, whatever the value is."""

import io
import json
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import hcl2
import pytest
import redis
import yaml
from hypothesis import given
from hypothesis import strategies as st

from evals.servers import Server
from tools.artefact import Artefact, comment, conf, hcl, joined, shell, yaml_of
from tools.remedies.artefacts import artefact, config_artefacts
from tools.remedies.parameters import RULES
from tools.size_artefacts import artefacts, how_to_order
from tools.sizes import InstanceSize, read_catalogue

GIB = 1 << 30
HOSTILE = st.text(min_size=1, max_size=60) | st.sampled_from(
    ["; rm -rf /", "$(reboot)", "`id`", "${file(\"/etc/passwd\")}", "%{ if true }x%{ endif }",
     "x\"\nprovisioner \"local-exec\" {}", "x\nrequirepass y", "- a: b", "'", "\\", "#", "*a"]
)  # fmt: skip


def words_of(command: str) -> list[str]:
    return shlex.split(command, comments=True)


def texts_in(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, part in node.items():
            yield str(key)
            yield from texts_in(part)
    elif isinstance(node, list):
        for part in node:
            yield from texts_in(part)
    else:
        yield str(node)


def parse(one: Artefact) -> Any:
    match one.language:
        case "hcl":
            return hcl2.load(io.StringIO(one.text))
        case "yaml":
            return yaml.safe_load(one.text)
        case "shell":
            return words_of(one.text.replace("\\\n", ""))
        case _:
            return one.text


@pytest.mark.parametrize("needed", [1, GIB, 30 * GIB, 100 * GIB, 5_000 * GIB])
def test_every_artefact_of_a_size_is_read_by_its_own_tool(needed: int) -> None:
    catalogue = read_catalogue()
    fits = catalogue.smallest(needed)  # type: ignore[union-attr]
    found = artefacts(fits, needed, needed // 2 + 1)
    for one in found:
        assert parse(one) is not None
    assert {one.language for one in found} >= {"hcl", "yaml", "conf"}
    text = how_to_order(fits, needed, needed // 2 + 1, grows=True)
    assert len(text) < 6_000
    sizes = {fit.name for fit in fits if fit.provider in ("ElastiCache", "MemoryDB")}
    told = {word for one in found if one.language == "shell" for word in parse(one)}
    assert sizes <= told


@pytest.mark.parametrize("parameter", sorted(RULES))
def test_every_parameter_we_set_has_artefacts(parameter: str) -> None:
    value = "pubsub 33554432 8388608 60" if parameter.startswith("client-output") else "1"
    for one in config_artefacts(parameter, value):
        assert parse(one) is not None
    assert artefact(parameter, value).startswith(f"# redis.conf\n{parameter} {value}\n")


def test_what_elasticache_does_not_let_one_change_is_said() -> None:
    assert "node type" in artefact("maxmemory", "1")
    replica = artefact("client-output-buffer-limit", "replica 1 1 60")
    assert "aws elasticache" not in replica
    assert "client-output-buffer-limit-pubsub-hard-limit" in artefact(
        "client-output-buffer-limit", "pubsub 1 1 60"
    )
    assert "--update-redis-config=maxmemory-policy=allkeys-lfu" in artefact(
        "maxmemory-policy", "allkeys-lfu"
    )


@given(HOSTILE)
def test_a_hostile_value_stays_one_value_everywhere(value: str) -> None:
    *_, name = words_of(shell(("aws", "x", value), ("--y", "NAME")).replace(" \\\n", ""))
    assert name == "NAME"
    assert words_of(shell(("aws", value)))[1:] == [value]
    quoted = hcl(value)
    assert "\n" not in quoted
    assert "${" not in quoted.replace("$${", "")
    assert "%{" not in quoted.replace("%%{", "")
    assert yaml.safe_load(yaml_of({"commonConfiguration": conf("timeout", value)})) == {
        "commonConfiguration": conf("timeout", value)
    }
    assert conf("timeout", value).isprintable()
    assert "\n" not in comment(value)


@given(HOSTILE, HOSTILE)
def test_a_hostile_value_injects_nothing_into_any_artefact(parameter: str, value: str) -> None:
    for one in config_artefacts(parameter, value):
        if one.language == "text":
            assert all(line.startswith("# ") for line in one.text.splitlines())
            continue
        found = parse(one)
        if one.language == "shell":
            assert found[0] in ("aws", "gcloud", "az")
            pairs = json.loads(found[-1])
            assert pairs == [{"ParameterName": parameter, "ParameterValue": value}]
        if one.language == "hcl":
            assert list(found) == ["resource"]
            assert "local-exec" not in set(texts_in(found))


def test_a_hostile_size_of_an_own_catalogue_injects_nothing() -> None:
    bad = 'x"; reboot # ${file("/etc/shadow")}'
    fits = [
        InstanceSize(provider=name, name=bad, memory_bytes=GIB, source="")
        for name in (
            "ElastiCache",
            "MemoryDB",
            "Memorystore",
            "Azure Managed Redis",
            "plain VM",
            "\n!",
        )
    ]
    for one in artefacts(fits, GIB, GIB):
        found = parse(one)
        if one.language == "shell":
            assert "reboot" not in found
            assert found[0] in ("aws", "gcloud", "az")
        if one.language == "hcl":
            assert list(found) == ["resource"]
    assert all(line[:1] != "!" for line in joined(artefacts(fits, GIB, GIB)).splitlines())


@pytest.mark.parametrize("build", ["redis-6.2", "valkey-9.1"])
def test_redis_conf_is_read_as_it_was_meant(
    build: str, start_server: Callable[..., Server], tmp_path: Any
) -> None:
    wanted = {
        "client-output-buffer-limit": "pubsub 33554432 8388608 60",
        "maxmemory-policy": "allkeys-lfu",
        "maxmemory": "104857600",
        "timeout": "600",
    }
    file = tmp_path / "more.conf"
    file.write_text("\n".join(conf(name, value) for name, value in wanted.items()) + "\n")
    server = start_server(build, "--include", str(file))
    with redis.Redis(port=server.port) as client:
        for name, value in wanted.items():
            assert value in client.config_get(name)[name]
