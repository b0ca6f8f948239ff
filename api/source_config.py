"""`sources:` of the YAML file: who may post alerts of one kind, and how that is proven."""

from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from api.entries import Credential, Duration, Entry, Name, Sha256

SourceKind = Literal["alertmanager", "grafana", "pagerduty", "datadog", "generic"]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,100}$")]
MOST_SECRETS = 4
"""Each costs one pass over the body of whoever knocks."""
SHORTEST_SECRET = 16
XFCC = "x-forwarded-client-cert"
"""Envoy's header, which has a form of its own."""
SIGNATURES: dict[SourceKind, str] = {
    "grafana": "X-Grafana-Alerting-Signature",
    "pagerduty": "X-PagerDuty-Signature",
    "generic": "X-Signature",
}
"""Kinds that can sign, and where the signature is unless configured otherwise."""


def _long_enough(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < SHORTEST_SECRET:
        raise ValueError(f"a secret of at least {SHORTEST_SECRET} characters is expected")
    return secret


class BasicEntry(Entry):
    """A user and a password, as in `http_config.basic_auth`."""

    user: Annotated[str, Field(pattern=r"^[^:\x00-\x1f]{1,100}$")]
    sha256: Sha256
    """Of the password, which has to be random: `redis-oncall token` makes one."""


class HmacEntry(Entry):
    """HMAC-SHA256 of the body, or of `<timestamp>:<body>`, in hexadecimal."""

    secrets: list[Annotated[SecretStr, AfterValidator(_long_enough)]] = Field(
        min_length=1, max_length=MOST_SECRETS
    )
    """Any of them: old and new while one is replaced."""
    header: HeaderName | None = None
    """None: the sender's own (`SIGNATURES`)."""
    timestamp_header: HeaderName | None = None
    """Seconds since 1970; signed with the body, and required once it is named here."""
    window: Annotated[Duration, Field(ge=timedelta(seconds=10), le=timedelta(hours=1))] = timedelta(
        minutes=5
    )
    """How far that time may be from ours."""


class MtlsEntry(Entry):
    """A proxy checks the client's certificate and says whose it is."""

    proxies: list[IPv4Network | IPv6Network] = Field(min_length=1, max_length=20)
    """From nobody else the headers are believed."""
    subjects: list[Annotated[str, Field(min_length=1, max_length=500)]] = Field(
        min_length=1, max_length=20
    )
    """Distinguished names exactly as the proxy writes them; of Envoy also URIs."""
    header: HeaderName = "X-SSL-Client-S-DN"
    verified: HeaderName = "X-SSL-Client-Verify"
    """Has to say SUCCESS; Envoy's header has none."""

    @model_validator(mode="after")
    def _not_everybody(self) -> Self:
        if any(network.prefixlen == 0 for network in self.proxies):
            raise ValueError("proxies: name the proxies' addresses, not every address")
        return self


class SourceEntry(Credential):
    """May post alerts of one kind, and nothing else."""

    name: Name
    kind: SourceKind
    sha256: Sha256 | None = None
    """Of a bearer token."""
    id: str | None = None
    basic: BasicEntry | None = None
    hmac: HmacEntry | None = None
    mtls: MtlsEntry | None = None

    @property
    def shown(self) -> str:
        """What it may and how it proves itself, without a secret."""
        return f"{self.kind} alerts, {self._way}"

    @property
    def _way(self) -> str:
        if self.basic is not None:
            return f"password of {self.basic.user}"
        if self.mtls is not None:
            proxies = ", ".join(str(network) for network in self.mtls.proxies)
            return f"client certificate that {proxies} checked"
        if self.hmac is None:
            return "bearer token"
        secrets = f"{len(self.hmac.secrets)} secret{'s' * (len(self.hmac.secrets) > 1)}"
        if self.hmac.timestamp_header is None:
            return f"signature ({secrets}), each message counts once"
        seconds = int(self.hmac.window.total_seconds())
        return f"signature ({secrets}) with a time at most {seconds} s away"

    @model_validator(mode="after")
    def _one_proof(self) -> Self:
        given = [self.sha256, self.basic, self.hmac, self.mtls]
        if sum(one is not None for one in given) != 1:
            raise ValueError("exactly one of sha256 (a bearer token), basic, hmac, mtls is needed")
        if self.id is not None and self.sha256 is None:
            raise ValueError("id: goes with sha256 only")
        return self

    @model_validator(mode="after")
    def _can_sign(self) -> Self:
        if self.hmac is None:
            return self
        if self.kind not in SIGNATURES:
            raise ValueError(f"hmac: {self.kind} cannot sign; use sha256, basic or mtls")
        if self.kind == "pagerduty" and (self.hmac.header or self.hmac.timestamp_header):
            raise ValueError("hmac: PagerDuty's header is fixed, and it signs no time; leave both")
        return self
