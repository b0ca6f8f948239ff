"""Secrets go, everything ordinary stays, and no text takes long."""

import re
import string
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.redaction import redact, redact_tree

SECRET = "hunter2-XyZ"


@pytest.mark.parametrize(
    "text",
    [
        f"redis://app:{SECRET}@cache:6379/0",
        f"rediss://:{SECRET}@cache",
        f"see redis://u:p@{SECRET}@host, please",
        f"AUTH {SECRET}",
        f"AUTH app {SECRET}",
        f"HELLO 3 AUTH app {SECRET} SETNAME x",
        f"auth {SECRET}",
        f"CONFIG SET requirepass {SECRET}",
        f"masterauth {SECRET}",
        f'config set requirepass "{SECRET} with spaces"',
        f"ACL SETUSER app on >{SECRET} ~*",
        f"password={SECRET}",
        f"password: {SECRET}",
        f'{{"password": "{SECRET}"}}',
        f'"api_key":"{SECRET}"',
        f"https://api/x?api_key={SECRET}&y=1",
        f"Authorization: Bearer {SECRET}{SECRET}",
        f"Authorization: Basic {SECRET}",
        f"bearer {SECRET}",
        f"sk-proj-{SECRET}{SECRET}",
        f"user:sk-{SECRET}{SECRET}:cart",
        f"ghp_{'a' * 30}hunter2",
        f"eyJhbGciOiJIUzI1NiJ9.{'c' * 20}.hunter2",
        "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_secrets_go(text: str) -> None:
    assert "hunter2" not in redact(text)
    assert "[redacted " in redact(text)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("user:alice@example.com:cart", "user:[redacted e-mail]:cart"),
        ("mail to a.b+c@mail.example.co.uk now", "mail to [redacted e-mail] now"),
        ("card:4111111111111111:x", "card:[redacted card]:x"),
        ("paid with 4111 1111 1111 1111", "paid with [redacted card]"),
        ("5500-0000-0000-0004", "[redacted card]"),
        ("378282246310005", "[redacted card]"),
    ],
)
def test_people_and_their_cards_go(text: str, left: str) -> None:
    assert redact(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "session:", "user:42:cart", "password:reset:7", "token:8f3a9c:user:1", "secret:santa:list",
        "auth:session:9", "authors:1", "{tenant-7}:queue", "cache@eu", "a@b", "@user",
        "https://example.com/@someone", "redis://cache:6379/0", "127.0.0.1:6379 (master)",
        "1700000000000-0", "1700000000000000", "4111111111111112", "0.4111111111111111",
        "5d41402abc4b2a76b9719d911017c592", "4f3b4111111111111111aa", "task-sk-1", "sk-short",
        "NOAUTH Authentication required.", "WRONGPASS invalid username-password pair",
        "ERR AUTH <password> called without any password configured", "auth failed for user bob",
        "user default on nopass ~* +@all", "maxmemory 104857600", "monkey:1", "basic:plan",
        "550e8400-e29b-41d4-a716-446655440000", "bearer:of:news", "no password is set",
    ],
)  # fmt: skip
def test_ordinary_names_and_numbers_stay(text: str) -> None:
    assert redact(text) == text


PARTS = st.text(string.ascii_lowercase + string.digits + "_-", min_size=1, max_size=14)


@given(st.lists(PARTS, min_size=1, max_size=4).map(":".join), st.sampled_from(["", ":"]))
def test_colon_joined_names_stay(name: str, end: str) -> None:
    joined = name + end
    if not re.search(r"sk-|[srp]k_|gh._|hf_|glpat|xox|\d{14}", joined):
        assert redact(joined) == joined


@given(st.text("0123456789abcdef", min_size=32, max_size=64).filter(lambda t: not t.isdigit()))
def test_hex_ids_stay(text: str) -> None:
    assert redact(f"E7 run_id {text} ok") == f"E7 run_id {text} ok"


@given(st.floats(allow_nan=False) | st.integers() | st.booleans() | st.none())
def test_numbers_keep_value_and_type(number: Any) -> None:
    assert redact_tree({"password": number, "rows": [number]}) == {
        "password": number,
        "rows": [number],
    }


HOSTILE = st.lists(
    st.sampled_from(
        [
            "AUTH ", "auth ", "password", "=", ": ", '"', "'", "redis://", "@", ":", "a", "hunter2",
            "bearer ", "4111111111111111", " ", "sk-", "x" * 20, "requirepass ", ".com", "eyJ",
            "\n", "[redacted ", "]", "-----BEGIN PRIVATE KEY-----", "setuser ", ">",
            "Authorization:",
        ]
    ),
    max_size=25,
).map("".join)  # fmt: skip


@given(HOSTILE | st.text(max_size=200))
def test_redacting_twice_changes_nothing(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@given(
    st.text(string.ascii_letters + string.digits + "!$%^*_+~.", min_size=6, max_size=40),
    st.sampled_from(
        [
            "redis://u:{}@h:1/0", "password={}", "AUTH {}", "AUTH u {}", "requirepass {}",
            '"passwd": "{}"', "Authorization: Token {}",
        ]
    ),
    st.text(max_size=20),
)  # fmt: skip
def test_no_secret_survives_whatever_it_is_made_of(secret: str, form: str, around: str) -> None:
    if "Authorization" in form:
        secret = re.sub(r"[^A-Za-z0-9._~+]", "x", secret) + "xx"
    text = f"{around}\n{form.format(secret)}\n{around}"
    assert secret not in redact(text) or secret in around or secret in "[redacted password]"


def test_trees_keep_their_shape() -> None:
    tree = {
        "rows": [
            {"key": "user:alice@example.com", "bytes": 12, "ttl": -1.5, "ok": True, "x": None}
        ],
        "parameters": {"maxmemory": "104857600"},
    }
    assert redact_tree(tree) == {
        "rows": [
            {"key": "user:[redacted e-mail]", "bytes": 12, "ttl": -1.5, "ok": True, "x": None}
        ],
        "parameters": {"maxmemory": "104857600"},
    }


@pytest.mark.parametrize(
    "tree",
    [
        ["AUTH", "app", SECRET],
        ["hello", "3", "AUTH", "app", SECRET],
        ["CONFIG", "SET", "requirepass", SECRET],
        {"password": SECRET},
        {"nested": [{"Authorization": SECRET}]},
        {f"redis://u:{SECRET}@h": 1},
        ("AUTH", SECRET),
    ],
)
def test_secrets_in_trees_go(tree: Any) -> None:
    assert "hunter2" not in str(redact_tree(tree))


def test_a_list_that_is_no_command_stays() -> None:
    assert redact_tree(["requirepass", "maxmemory"]) == ["requirepass", "maxmemory"]
    assert redact_tree(["auth", "command"]) == ["auth", "[redacted password]"]


def test_endless_nesting_ends() -> None:
    tree: Any = "x"
    for _ in range(5_000):
        tree = [tree]
    assert "nested too deeply" in str(redact_tree(tree))


@pytest.mark.parametrize(
    "unit",
    [
        "a", "a.", "1", "4111 ", "AUTH ", "http://", "-----BEGIN PRIVATE KEY-----", "setuser a ",
        "eyJaaaaaaaa.", "password= ", 'password="', "@", "a@a.", "a-", "authorization ", "bearer ",
        "://", "sk-", " ", "\n", "[redacted ",
    ],
)  # fmt: skip
def test_time_grows_with_length_and_no_faster(unit: str) -> None:
    def seconds(length: int) -> float:
        text = unit * (length // len(unit))
        started = time.process_time()
        redact(text)
        return time.process_time() - started

    small = min(seconds(20_000) for _ in range(3))
    # Quadratic time would be a hundred times as long for ten times the text.
    assert seconds(200_000) < 30 * small + 0.25
