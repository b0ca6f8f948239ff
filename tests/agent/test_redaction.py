"""Secrets go, everything ordinary stays, and no text takes long."""

import base64
import re
import string
import time
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.redaction import redact, redact_tree, redacted
from tools.memory import MemoryDoctor
from tools.reading import NotMeasured
from tools.summaries import summarize

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
        f"postgres://app:{SECRET}@db:5432/x",
        f"mongodb+srv://u:{SECRET}@c.mongodb.net/?w=1",
        f"amqp://u:{SECRET}@h//vhost",
        f"redis://u:p/{SECRET}@h",
        f"jdbc:mysql://h/db?user=a&password={SECRET}",
        f"Server=db;User Id=sa;Password={SECRET};",
        f"app:{SECRET}@db:5432",
        f"cache:app:{SECRET}@db:5432:pool",
        "cache:app:hunter2XyZ9@db:pool",
        "cfg:password:hunter2XyZ9",
        "requirepass:hunter2XyZ9",
        f"DB_PASS={SECRET}",
        f"?token={SECRET}&x=1",
        f"sig={SECRET}",
        f"AccountKey={SECRET}==;EndpointSuffix=x",
        f'"AUTH" "{SECRET}"',
        f"'auth' '{SECRET}'",
        f"MIGRATE h 1 k 0 5 AUTH2 u {SECRET} KEYS a",
        f"AUTH\n{SECRET}",
        f"password\n=\n{SECRET}",
        f"redis-cli -h x -a {SECRET} ping",
        f"valkey-cli --pass {SECRET}",
        f"curl -u app:{SECRET} https://h",
        f"contraseña: {SECRET}",
        f"passwort={SECRET}",
        f"пароль={SECRET}",
        f"密码={SECRET}",
        f"roc_ab12_{SECRET}",
        f"whsec_{'a' * 16}hunter2",
        f"https://hooks.slack.com/services/T00/B00/{SECRET}",
        f"ya29.{'a' * 20}hunter2",
        f"SG.{'a' * 22}.{'b' * 20}hunter2",
        f"\x1b[31mpassword={SECRET}",
        # Encoded once, twice, and so that a reader sees no difference.
        f"redis%3A%2F%2Fapp%3A{SECRET}%40db",
        f"redis%253A%252F%252Fapp%253A{SECRET}%2540db",
        f"password%3D{SECRET}",
        rf"redis:\x2f\x2fu:{SECRET}@h",
        f"redis&#58;//u:{SECRET}@h",
        f"pass\u200cword={SECRET}",
        rf"pass\u200bword={SECRET}",
        f"ｐａｓｓｗｏｒｄ={SECRET}",  # noqa: RUF001
        "redis://app:hunter2…(300 characters)",
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
        ("card:4111:1111:1111:1111", "card:[redacted card]"),
        ("4111_1111_1111_1111", "[redacted card]"),
        ("pan4111111111111111", "pan[redacted card]"),
        ("４１１１１１１１１１１１１１１１", "[redacted card]"),  # noqa: RUF001
        ("user%3Ajane.doe%40example.com%3Acart", "user:[redacted e-mail]:cart"),
        ("user:jane%2540example.com", "user:[redacted e-mail]"),
        (r"user:jane\x40example.com", "user:[redacted e-mail]"),
        ("jané＠exämple.de", "[redacted e-mail]"),  # noqa: RUF001
        ("jane.doe@exampl…(300 characters)", "[redacted e-mail]…(300 characters)"),
        ("iban:DE89370400440532013000", "iban:[redacted account]"),
        ("DE89 3704 0044 0532 0130 00", "[redacted account]"),
        ("tel:+491701234567", "tel:[redacted phone]"),
        ("phone:+1-202-555-0143", "phone:[redacted phone]"),
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
        "password:policy:2026", "password:v2Reset", "api_key:usage:2026-11", "secret:rotation:job",
        "Basic metrics", "basic:metrics1", "bypass=true", "tokens=12345678", "signature:v2",
        "user:42@shard1", "127.0.0.1:6379@16379", "slave0:ip=10.0.0.7,port=6379,state=online",
        "utc+02:00", "a+b@", "+@all -@dangerous", "100%", "50%25 off", "R&D", "AT&amp;T", "a=b=c",
        "order:GB2026123456789012", "tel:0170123456", "c++:build:20261124", "e-mail:queue",
        "npm_config", "SG.small", "masterauth of its replicas", "requirepass is set",
        "{user:1000}.following", "feed|2026-11-24|eu", "celery-task-meta-7f0c3c2e", "h:\\x41bc",
        "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXo=", "ключ:сессия:7", "会话:用户:42", "clé:été",
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


@given(
    st.text(string.ascii_letters + string.digits, min_size=6, max_size=30),
    st.sampled_from(["redis://u:{}@h:1/0", "password={}", "x:user={};password={};"]),
    st.lists(st.sampled_from(["percent", "hex", "base64", "wide"]), max_size=2),
)
def test_no_encoding_carries_a_secret_out(secret: str, form: str, encodings: list[str]) -> None:
    text = form.replace("{}", secret)
    for encoding in encodings:
        text = ENCODINGS[encoding](text)
    assert "[redacted " in redact(f"key {text} end")


ENCODINGS = {
    "percent": lambda text: quote(text, safe=""),
    "hex": lambda text: "".join(f"\\x{ord(c):02x}" if c in ":/@=;%" else c for c in text),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "wide": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
}


def test_a_header_of_basic_authorization_goes() -> None:
    said = base64.b64encode(f"app:{SECRET}".encode()).decode()
    for text in (f"Basic {said}", f"authorization:basic:{said}", f"Authorization: Basic {said}"):
        assert said not in redact(text)


def test_a_reading_and_its_summary_hold_no_address() -> None:
    """Its summary is cut to a length: what the cut leaves of an address must be gone before."""
    reading = redacted(MemoryDoctor(text="x" * 185 + " jane.doe@example.com"))
    assert isinstance(reading, MemoryDoctor)
    assert reading.text.endswith(" [redacted e-mail]")
    assert "jane" not in summarize(reading)
    failed = redacted(NotMeasured(not_measured="x", because=f"AUTH {SECRET}"))
    assert SECRET not in summarize(failed)
    assert isinstance(redacted(MemoryDoctor(text="a@b.co " * 280)), NotMeasured)


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
