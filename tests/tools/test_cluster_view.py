"""What CLUSTER NODES says, and who serves a failed node's slots."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.cluster_view import ClusterNode, cluster_view, named_by, newest, successor

NODES = b"""\
a1 10.0.0.1:7000@17000,one.example master - 0 1 3 connected 0-5460 [93->-a2]
a2 10.0.0.2:7000@17000,,tls-port=0 myself,master - 0 1 2 connected 5461-10922 16383
b1 ::1:7001@17001 slave a1 0 1 3 connected
x :0@0 master,noaddr,fail - 0 1 1 disconnected
broken
"""


def view(**changes: bytes) -> list[ClusterNode]:
    text = NODES
    for before, after in changes.items():
        text = text.replace(before.encode(), after)
    return cluster_view(text)


def test_lines_are_nodes() -> None:
    one, two, replica, lost = view()
    assert [node.address for node in view()] == ["10.0.0.1:7000", "10.0.0.2:7000", "[::1]:7001", ""]
    assert (one.slot_count, one.moving_slots) == (5461, 1)
    assert (two.slot_count, two.is_primary) == (5463, True)
    assert (replica.primary_id, replica.is_primary) == ("a1", False)
    assert lost.is_failing
    assert cluster_view(NODES, by_name=True)[0].address == "one.example:7000"
    assert cluster_view(NODES, by_name=True)[1].address == "10.0.0.2:7000"


@given(st.binary(max_size=400))
def test_no_text_breaks_it(text: bytes) -> None:
    for node in cluster_view(text):
        assert node.slot_count <= 16_384


@pytest.mark.parametrize("said", [b"9" * 5_000, b"0-" + b"9" * 5_000, b"5-4 16384", b"7-99999"])
def test_slots_that_there_are_not_are_left_out(said: bytes) -> None:
    (node,) = cluster_view(b"a 10.0.0.1:1@2 master - 0 0 " + b"9" * 5_000 + b" connected 3 " + said)
    assert (node.epoch, node.slots) == (0, ((3, 3),))


def test_a_node_that_claims_slots_many_times_is_compared_no_longer() -> None:
    line = b"a 10.0.0.1:1@2 master%s - 0 0 1 connected " + b"0-100 90-200 201 5-9 " * 20_000
    (before,), (now,) = cluster_view(line % b""), cluster_view(line % b"")
    assert before.slots == ((0, 201),)
    assert successor(before, [now]) is now


def test_a_node_that_nobody_has_met_is_where_it_was_asked() -> None:
    lonely = (
        b"a :7000@17000 myself,master - 0 0 0 connected 0-16383\nb :1@2 master - 0 0 0 connected"
    )
    me, other = cluster_view(lonely, asked="cache.example:7000")
    assert (me.address, me.is_failing) == ("cache.example:7000", False)
    assert (other.address, other.is_failing) == ("", True)
    assert not cluster_view(lonely)[0].is_failing


def test_an_address_that_is_none_leads_nowhere() -> None:
    (node,) = cluster_view(b"a user:password@evil.example:1@2 master - 0 1 1 connected 0-1")
    assert node.address == ""


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (b"a1 10.0.0.1:7000@17000 master - 0 1 3 connected 0-5460", "a1"),
        # It failed, and its replica took over.
        (b"a1 10.0.0.1:7000@17000 master,fail - 0 1 3 disconnected\n"
         b"b1 10.0.0.9:7001@17001 master - 0 1 4 connected 0-5460", "b1"),
        # It came back as the replica of who took over.
        (b"a1 10.0.0.1:7000@17000 slave b1 0 1 4 connected\n"
         b"b1 10.0.0.9:7001@17001 master - 0 1 4 connected 0-5460", "b1"),
        # Its slots were moved away, most of them to one.
        (b"a1 10.0.0.1:7000@17000 master - 0 1 3 connected\n"
         b"c1 10.0.0.3:7001@17001 master - 0 1 4 connected 0-99\n"
         b"b1 10.0.0.9:7001@17001 master - 0 1 4 connected 100-5460", "b1"),
        # It failed, and nobody has taken over yet.
        (b"a1 10.0.0.1:7000@17000 master,fail - 0 1 3 disconnected 0-5460\n"
         b"b1 10.0.0.9:7001@17001 slave a1 0 1 3 connected", None),
    ],
)  # fmt: skip
def test_whoever_serves_the_slots_is_the_successor(after: bytes, expected: str | None) -> None:
    found = successor(view()[0], cluster_view(after))
    assert (found.id if found else None) == expected


def test_the_view_of_the_latest_failover_is_believed() -> None:
    cut_off = cluster_view(b"a1 10.0.0.1:1@2 master - 0 1 3 connected 0-5460")
    fresh = cluster_view(b"b1 10.0.0.9:1@2 master - 0 1 4 connected 0-5460")
    assert newest([cut_off, fresh, []]) == fresh
    assert newest([]) == ()


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("10.0.0.2:7000", "a2"), ("redis://10.0.0.1:7000", "a1"), ("10.0.0.2:9121", "a2"),
        ("10.0.0.2", "a2"), ("[::1]:9121", "b1"), ("10.0.0.3:7000", None), ("", None),
        ("one.example:7000", "a1"), ("one.example:9121", "a1"), ("one.example:7001", "a1"),
    ],
)  # fmt: skip
def test_labels_name_a_node_by_its_address_or_by_its_host(label: str, expected: str | None) -> None:
    found = named_by([label], view())
    assert (found.id if found else None) == expected


def test_a_host_of_several_nodes_names_none() -> None:
    twins = cluster_view(
        b"a 10.0.0.1:7000@1 master - 0 1 1 connected\nb 10.0.0.1:7001@1 master - 0 1 1 connected"
    )
    assert named_by(["10.0.0.1:9121"], twins) is None
