"""Who may post alerts: each source proves itself in its own way, for its own kind only."""

import base64
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from sqlalchemy import select
from starlette.datastructures import Headers

from api import sign_ins
from api.app import create_app
from api.auth import Tokens
from api.cli.doctor import sources_of
from api.config import Config
from api.settings import Settings
from api.source_auth import MOST_SIGNATURES, Message, identify
from api.source_config import SourceKind
from api.store.tables import AuditRow
from tests.api.senders import NEW, OLD, raw, signature
from tests.api.serving import serving, sha256, token_entries
from tests.api.test_alerts import firing, incident, message
from tests.api.test_incidents_api import service_of

BODY = raw(message(firing()))
NOW = 1_700_000_000
DN = "CN=alertmanager,O=Acme \\22Ops\\22"
SPIFFE = "spiffe://acme.example/ns/monitoring/sa/alertmanager"
SOURCES: list[dict[str, Any]] = [
    {"name": "token", "kind": "alertmanager", "sha256": sha256("roc_prom_x")},
    {"name": "password", "kind": "alertmanager",
     "basic": {"user": "prometheus", "sha256": sha256("p:w")}},
    {"name": "umlaut", "kind": "datadog",
     "basic": {"user": "Prométheus", "sha256": sha256(":pässwörd:")}},
    {"name": "signed", "kind": "grafana", "hmac": {"secrets": [OLD, NEW]}},
    {"name": "timed", "kind": "generic",
     "hmac": {"secrets": [NEW], "header": "X-Mine", "timestamp_header": "X-When", "window": "2m"}},
    {"name": "nginx", "kind": "datadog",
     "mtls": {"proxies": ["10.1.0.0/16", "fd00::1/128"], "subjects": ["CN=other", DN]}},
    {"name": "envoy", "kind": "alertmanager",
     "mtls": {"proxies": ["10.2.0.7"], "subjects": [SPIFFE, DN],
              "header": "X-Forwarded-Client-Cert"}},
]  # fmt: skip


def basic(user: str, password: str) -> dict[str, str]:
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def timed(offset: int = 0, said: str | None = None) -> dict[str, str]:
    when = NOW + offset
    return {"X-When": str(when) if said is None else said, "X-Mine": signature(BODY, NEW, when)}


def nginx(subject: str = DN, verified: str = "SUCCESS") -> dict[str, str]:
    return {"X-SSL-Client-S-DN": subject, "X-SSL-Client-Verify": verified}


def envoy(header: str) -> dict[str, str]:
    return {"X-Forwarded-Client-Cert": header}


QUOTED = DN.replace("\\", "\\\\").replace('"', '\\"')
KNOWN: list[tuple[str, SourceKind, Mapping[str, str], str]] = [
    ("token", "alertmanager", {"Authorization": "Bearer roc_prom_x"}, ""),
    ("token", "alertmanager", {"Authorization": "bearer  roc_prom_x"}, ""),
    ("password", "alertmanager", basic("prometheus", "p:w"), ""),
    ("umlaut", "datadog", basic("Prométheus", ":pässwörd:"), ""),
    ("signed", "grafana", {"X-Grafana-Alerting-Signature": signature(BODY, OLD)}, ""),
    ("signed", "grafana", {"X-Grafana-Alerting-Signature": signature(BODY, NEW)}, ""),
    ("timed", "generic", timed(), ""),
    ("timed", "generic", timed(-100), ""),
    ("timed", "generic", timed(100), ""),
    ("nginx", "datadog", nginx(), "10.1.2.3"),
    ("nginx", "datadog", nginx(), "::ffff:10.1.2.3"),
    ("nginx", "datadog", nginx(), "fd00::1"),
    ("envoy", "alertmanager", envoy(f'By=x;Hash=ab;Subject="{QUOTED}";URI=spiffe://o'), "10.2.0.7"),
    ("envoy", "alertmanager", envoy(f'Hash=ab;Subject="";URI={SPIFFE}'), "10.2.0.7"),
]
UNKNOWN: list[tuple[SourceKind, Mapping[str, str], str]] = [
    ("alertmanager", {}, ""),
    ("alertmanager", {"Authorization": "Bearer roc_prom_y"}, ""),
    ("alertmanager", {"Authorization": "Bearer"}, ""),
    ("alertmanager", basic("prometheus", "p"), ""),
    ("alertmanager", basic("prometheu", "p:w"), ""),
    ("alertmanager", basic("prometheus", ""), ""),
    ("alertmanager", basic("", "p:w"), ""),
    ("alertmanager", basic("", ""), ""),
    ("alertmanager", {"Authorization": "Basic"}, ""),
    ("alertmanager", {"Authorization": "Basic " + base64.b64encode(b"prometheus").decode()}, ""),
    ("alertmanager", {"Authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()}, ""),
    ("alertmanager", {"Authorization": "Basic %%%"}, ""),
    ("alertmanager", {"Authorization": "Basic é"}, ""),
    ("grafana", {"X-Grafana-Alerting-Signature": signature(BODY + b" ", NEW)}, ""),
    ("grafana", {"X-Grafana-Alerting-Signature": "v1=" + signature(BODY, NEW)}, ""),
    ("grafana", {"X-Grafana-Alerting-Signature": ""}, ""),
    ("grafana", {"X-PagerDuty-Signature": "v1=" + signature(BODY, NEW)}, ""),
    ("generic", {"X-Grafana-Alerting-Signature": signature(BODY, NEW)}, ""),
    ("generic", timed(-130), ""),
    ("generic", timed(130), ""),
    ("generic", timed(said=str(NOW - 1)), ""),
    ("generic", timed(said=""), ""),
    ("generic", timed(said="now"), ""),
    ("generic", timed(said="٣" * 10), ""),
    ("generic", {"X-Mine": signature(BODY, NEW)}, ""),
    ("datadog", nginx(), "10.9.2.3"),
    ("datadog", nginx(), ""),
    ("datadog", nginx(), "somewhere"),
    ("datadog", nginx(verified="FAILED:expired"), "10.1.2.3"),
    ("datadog", nginx(verified="NONE"), "10.1.2.3"),
    ("datadog", nginx(subject="CN=alertmanager"), "10.1.2.3"),
    ("datadog", nginx(subject=""), "10.1.2.3"),
    ("datadog", {"X-SSL-Client-S-DN": DN}, "10.1.2.3"),
    ("alertmanager", envoy(f"URI={SPIFFE}"), "10.1.2.3"),
    ("alertmanager", envoy(SPIFFE), "10.2.0.7"),
    ("alertmanager", envoy(f"URI={SPIFFE},URI=spiffe://o"), "10.2.0.7"),
    ("alertmanager", envoy(f"URI=spiffe://o,URI={SPIFFE}"), "10.2.0.7"),
    ("alertmanager", envoy(f'Subject="x;URI={SPIFFE}"'), "10.2.0.7"),
    ("alertmanager", envoy(f'Subject="x\\";URI={SPIFFE}'), "10.2.0.7"),
    ("alertmanager", envoy(f"By={SPIFFE};Hash=ab"), "10.2.0.7"),
]


@pytest.fixture
def tokens(settings: Callable[..., Settings]) -> Tokens:
    return Tokens(settings(sources=SOURCES))


def known_as(
    tokens: Tokens, kind: SourceKind, headers: Mapping[str, str] | Headers, peer: str
) -> str | None:
    if not isinstance(headers, Headers):
        pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        headers = Headers(raw=pairs)
    sender = identify(tokens, kind, Message(headers, BODY, peer, NOW))
    return sender.person.name if sender else None


@pytest.mark.parametrize(("name", "kind", "headers", "peer"), KNOWN)
def test_each_proof_is_accepted(
    tokens: Tokens, name: str, kind: SourceKind, headers: Mapping[str, str], peer: str
) -> None:
    assert known_as(tokens, kind, headers, peer) == name


@pytest.mark.parametrize(("kind", "headers", "peer"), UNKNOWN)
def test_what_is_wrong_anywhere_is_unknown(
    tokens: Tokens, kind: SourceKind, headers: Mapping[str, str], peer: str
) -> None:
    assert known_as(tokens, kind, headers, peer) is None


@pytest.mark.parametrize(("name", "kind", "headers", "peer"), KNOWN)
def test_a_header_that_is_there_twice_proves_nothing(
    tokens: Tokens, name: str, kind: SourceKind, headers: Mapping[str, str], peer: str
) -> None:
    """A proxy that adds its own beside the client's leaves open which is whose."""
    pairs = [(field.lower().encode(), value.encode()) for field, value in headers.items()]
    for field, _ in pairs:
        for doubled in ([(field, b"of the client"), *pairs], [*pairs, (field, b"of the client")]):
            assert known_as(tokens, kind, Headers(raw=doubled), peer) is None, (name, field)


def test_a_proof_is_for_its_own_kind(tokens: Tokens) -> None:
    """A signature is not even looked at elsewhere; the others are known, and told no (below)."""
    for name, kind, headers, peer in KNOWN:
        for other in ("alertmanager", "grafana", "pagerduty", "datadog", "generic"):
            if other != kind:
                expected = None if name in ("signed", "timed") else name
                assert known_as(tokens, other, headers, peer) == expected


def test_one_proof_may_be_of_several_sources(settings: Callable[..., Settings]) -> None:
    """The same machine runs Alertmanager and the scripts: each kind has its own entry."""
    kinds: tuple[SourceKind, ...] = ("alertmanager", "generic", "datadog")
    for name in ("token", "password", "envoy"):
        proof = next(source for source in SOURCES if source["name"] == name)
        _, _, headers, peer = next(known for known in KNOWN if known[0] == name)
        tokens = Tokens(settings(sources=[proof | {"name": k, "kind": k} for k in kinds]))
        for kind in kinds:
            assert known_as(tokens, kind, headers, peer) == kind, name


def test_signatures_are_bounded(tokens: Tokens) -> None:
    many = ",".join(["0" * 64] * MOST_SIGNATURES + [signature(BODY, NEW)])
    assert known_as(tokens, "grafana", {"X-Grafana-Alerting-Signature": many}, "") is None


async def test_the_answer_tells_nothing_and_each_failure_is_on_record(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_ins, "MOST_FAILURES", 10_000)
    app = create_app(settings(sources=SOURCES), worker=False)
    answers, attempts = set(), 0
    json = {"Content-Type": "application/json"}
    async with serving(app) as client:
        client.headers.pop("Authorization")
        for kind, headers, _ in UNKNOWN:
            sent = [(name.encode(), value.encode()) for name, value in {**headers, **json}.items()]
            for body in (BODY, b"{", b""):
                response = await client.post(f"/v1/alerts/{kind}", content=body, headers=sent)
                answers.add((response.status_code, response.text))
                attempts += 1
        assert len(answers) == 1, "also for a body that is no JSON: it was not read"
        wrong_kind = await client.post(
            "/v1/alerts/grafana", content=BODY, headers=json | basic("prometheus", "p:w")
        )
        assert wrong_kind.status_code == 403
        assert "prometheus" not in wrong_kind.text
        database = service_of(client).database
        await app.state.sign_ins.write_down(database)
        async with database.reading() as session:
            query = select(AuditRow).where(AuditRow.what == "sign_in_failed")
            rows = list(await session.scalars(query))
    assert [status for status, _ in answers] == [401]
    assert sum(row.detail["times"] for row in rows) == attempts + 1


async def test_what_grafana_signed_counts_once(settings: Callable[..., Settings]) -> None:
    """Without a time in the signature only memory tells a replay."""
    over = raw(message(firing(status="resolved", endsAt="2026-01-31T04:00:00Z")))
    async with serving(create_app(settings(sources=SOURCES), worker=False)) as client:

        async def post(body: bytes) -> Any:
            headers = {"X-Grafana-Alerting-Signature": signature(body, NEW), "Authorization": "",
                       "Content-Type": "application/json"}  # fmt: skip
            response = await client.post("/v1/alerts/grafana", content=body, headers=headers)
            assert response.status_code == 202, response.text
            return response.json()["incidents"]

        (one,) = await post(BODY)
        assert await post(over)
        fired_again = raw(message(firing(startsAt="2026-01-31T05:00:00Z")))
        (later,) = await post(fired_again)
        assert await post(over) == [], "replayed, it would end what fires now"
        alerts = (await incident(client, later["id"]))["alerts"]
        assert [a["status"] for a in alerts if a["starts_at"].startswith("2026-01-31T05")] == [
            "firing"
        ]
        assert one["created"]


def test_doctor_says_what_each_source_uses_and_no_secret(
    settings: Callable[..., Settings],
) -> None:
    told = {finding.what: finding.says for finding in sources_of(settings(sources=SOURCES))}
    assert told == {
        "source token": "alertmanager alerts, bearer token",
        "source password": "alertmanager alerts, password of prometheus",
        "source umlaut": "datadog alerts, password of Prométheus",
        "source signed": "grafana alerts, signature (2 secrets), each message counts once",
        "source timed": "generic alerts, signature (1 secret) with a time at most 120 s away",
        "source nginx":
            "datadog alerts, client certificate that 10.1.0.0/16, fd00::1/128 checked",
        "source envoy": "alertmanager alerts, client certificate that 10.2.0.7/32 checked",
        "source prometheus": "any alerts, bearer token",
    }  # fmt: skip
    (nobody,) = sources_of(settings(tokens=token_entries()[:1]))
    assert nobody.state == "warning"
    assert sources_of(settings(tokens=[])) == []


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "exactly one of"),
    ({"sha256": "a" * 64, "basic": {"user": "u", "sha256": "b" * 64}}, "exactly one of"),
    ({"basic": {"user": "u", "sha256": "b" * 64}, "id": "x"}, "id"),
    ({"basic": {"user": "a:b", "sha256": "b" * 64}}, "basic.user"),
    ({"basic": {"user": "u", "sha256": "hunter2"}}, "basic.sha256"),
    ({"basic": {"user": "u", "sha256": sha256("")}}, "empty or a well-known text"),
    ({"sha256": "WHAT-redis-oncall-token-PRINTS"}, "64 hexadecimal digits are expected"),
    ({"sha256": sha256("") + "\n"}, "64 hexadecimal digits are expected"),
    ({"sha256": sha256("\n")}, "empty or a well-known text"),
    ({"hmac": {"secrets": [NEW]}}, "alertmanager cannot sign"),
    ({"kind": "datadog", "hmac": {"secrets": [NEW]}}, "datadog cannot sign"),
    ({"kind": "grafana", "hmac": {"secrets": []}}, "hmac.secrets"),
    ({"kind": "grafana", "hmac": {"secrets": ["hunter2"]}}, "at least 16"),
    ({"kind": "grafana", "hmac": {"secrets": [NEW] * 5}}, "hmac.secrets"),
    ({"kind": "grafana", "hmac": {"secrets": [NEW], "header": "X Y"}}, "hmac.header"),
    ({"kind": "grafana", "hmac": {"secrets": [NEW], "window": "3d"}}, "hmac.window"),
    ({"kind": "pagerduty", "hmac": {"secrets": [NEW], "header": "X-Y"}}, "fixed"),
    ({"mtls": {"proxies": [], "subjects": ["CN=a"]}}, "mtls.proxies"),
    ({"mtls": {"proxies": ["0.0.0.0/0"], "subjects": ["CN=a"]}}, "not every address"),
    ({"mtls": {"proxies": ["::/0"], "subjects": ["CN=a"]}}, "not every address"),
    ({"mtls": {"proxies": ["proxy.example"], "subjects": ["CN=a"]}}, "mtls.proxies"),
    ({"mtls": {"proxies": ["10.0.0.1"], "subjects": [""]}}, "mtls.subjects"),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "told"), BAD)
def test_a_source_that_could_not_work_stops_the_start(entry: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match="sources") as caught:
        Config.model_validate({"sources": [{"name": "s", "kind": "alertmanager", **entry}]})
    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert NEW not in str(caught.value)
