"""Whose managed service an endpoint is."""

import pytest

from tools.provider import provider_of


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("prod.abc123.ng.0001.euw1.cache.amazonaws.com:6379 (master)", "AWS ElastiCache"),
        ("clustercfg.prod.abc123.memorydb.eu-west-1.amazonaws.com:6379", "AWS MemoryDB"),
        ("Prod.redis.cache.windows.net:6380 (master)", "Azure Cache for Redis"),
        ("prod.westeurope.redis.azure.net:10000", "Azure Managed Redis"),
        ("redis-12345.c1.eu-west-1-3.ec2.redns.redis-cloud.com:12345", "Redis Cloud"),
        ("apt-cat-12345.upstash.io:6379", "Upstash"),
        ("upstash.io.evil.example:6379", None),
        ("10.0.0.3:6379 (master)", None),
        ("/run/redis.sock (master)", None),
    ],
)
def test_an_endpoint_tells_its_provider(node: str, expected: str | None) -> None:
    assert provider_of(node) == expected
