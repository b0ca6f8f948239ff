"""Which nodes a URL names; what of it may be shown."""

import pytest

from tools.target_url import deployment_of, display_url, is_address, sentinel_credentials, url_at

SECRET = "redis-cluster://sre:p%40ss@n1:7000,[::1]:7001,n3/2?ssl_ca_certs=/ca.pem"


def test_a_cluster_has_many_addresses_and_each_node_the_same_credentials() -> None:
    found = deployment_of(SECRET)
    assert (found.kind, found.addresses) == ("cluster", ("n1:7000", "[::1]:7001", "n3:6379"))
    assert url_at(SECRET, "[::1]:9") == "redis://sre:p%40ss@[::1]:9/2?ssl_ca_certs=/ca.pem"
    assert display_url(SECRET) == "redis-cluster://n1:7000,[::1]:7001,n3/2"


def test_sentinels_have_credentials_of_their_own() -> None:
    url = "rediss-sentinel://u:p@s1,s2:1/0?master_name=m&sentinel_password=x&ssl_cert_reqs=none"
    found = deployment_of(url)
    assert (found.kind, found.addresses) == ("sentinel", ("s1:26379", "s2:1"))
    assert found.master_name == "m"
    assert sentinel_credentials(url) == {"password": "x"}
    assert url_at(url, "n:1").startswith("rediss://u:p@n:1/0")


@pytest.mark.parametrize(
    "url",
    [
        "http://h", "redis://u:p/x@h", "redis://u:secret#x@h", "redis://h:99999", "redis://h:x",
        "redis://a,b", "redis-sentinel://s1", "redis-cluster://" + ",".join(["h"] * 17),
        "redis://h\n:1", "redis://h:1:2", "redis://[::1", "rédis://h",
    ],
)  # fmt: skip
def test_what_is_no_url_is_told_without_any_of_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"use redis|not a URL|hosts:|master_name") as told:
        deployment_of(url)
    for secret in ("secret", "u:p", "h\n"):
        assert secret not in str(told.value)


@pytest.mark.parametrize(
    ("text", "right"),
    [("h:1", True), ("10.0.0.1:6379", True), ("[fe80::1]:1", True), ("::1:7000", False),
     ("h", False), ("h:65536", False), ("a b:1", False), ("u@h:1", False), ("h/x:1", False),
     (":1", False), ("h:1\n", False), ("[::1]x:1", False)],
)  # fmt: skip
def test_an_address_is_a_host_and_a_port_and_nothing_else(text: str, right: bool) -> None:
    assert is_address(text) is right
