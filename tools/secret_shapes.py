"""What secrets and personal data look like: patterns with bounded repetition, tried in order. Pure.

A name on its own is no secret: `password:reset:7` and `token:8f3a9c` are keys like any other. A
pattern wants an assignment, a vendor's prefix, a check digit, or the look of a made-up password.
"""

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass

PASSWORD, TOKEN, EMAIL, CARD, ACCOUNT, PHONE = (
    f"[redacted {what}]" for what in ("password", "token", "e-mail", "card", "account", "phone")
)
REDACTED = re.compile(r"(\[redacted [a-z0-9 -]{1,40}\])")
"""Any of them, in what was redacted."""
Replacement = str | Callable[[re.Match[str]], str]


@dataclass(frozen=True)
class Shape:
    """A pattern, and characters of which a text holds one if the pattern can match at all."""

    pattern: re.Pattern[str]
    replacement: Replacement
    needs: tuple[str, ...] = ()

    def without(self, text: str) -> str:
        """The text with everything of this shape replaced."""
        if self.needs and not any(mark in text for mark in self.needs):
            return text
        return self.pattern.sub(self.replacement, text)


_NOT_YET = r"(?!\[redacted )"
_VALUE = r"""(?:"[^"]{1,512}"|'[^']{1,512}'|[^\s"',;&\[\]{}()<>]{1,512})"""
_SENSITIVE = (
    r"(?:password|passwd|passphrase|passwort|kennwort|pwd|contrase[ñn]a|senha|wachtwoord"
    r"|mot[_ -]?de[_ -]?passe|lösenord|пароль|密码|密碼|パスワード|비밀번호"
    r"|secret|client[_-]?secret|api[_-]?key|access[_-]?key|account[_-]?key|access[_-]?token"
    r"|refresh[_-]?token|auth[_-]?token|secret[_-]?key|requirepass|masterauth|sentinel-pass"
    r"|tls-key-file-pass|tls-client-key-file-pass)"
)
SENSITIVE_NAME = re.compile(
    rf"(?i){_SENSITIVE}|(?:proxy-)?authorization|(?:set-)?cookie|token|x-[a-z-]{{1,20}}-(?:key|token)"
)
_STRONG = (
    r"(?=[^\s:/@]{0,40}[0-9])(?=[^\s:/@]{0,40}[A-Z])(?=[^\s:/@]{0,40}[a-z])"
    r"[^\s:/@\"'\[\]{}]{8,512}"
)
"""Small and capital letters and digits, at least eight: what a key's part hardly ever is."""

_PEM = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[A-Za-z0-9+/=\s\\]{0,8000}"
    r"(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?"
)
_URL_USER = re.compile(
    r"(?<![a-z0-9+.-])([a-z][a-z0-9+.-]{1,19}://)" + _NOT_YET
    # A `/` is part of a password that was not encoded; behind a port it begins the path.
    + r"(?:[^\s/\"'<>]{1,300}|[^\s/:@\"'<>]{0,100}:(?!\d{1,5}/)[^\s\"'<>]{1,300})@",
    re.IGNORECASE,
)  # fmt: skip
# A name of Redis that was cut in the middle of its URL or address.
_URL_CUT = re.compile(r"(?i)([a-z][a-z0-9+.-]{1,19}://[^\s/:@]{0,100}:)[^\s/@]{1,300}(?=…)")
_EMAIL_CUT = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w.-]{0,200}(?=…)")
# user:password@host:port without a scheme. A node of a cluster is host:port@port.
_PAIR_AT = re.compile(
    rf"(?<![^\s:/|;,=\"'])([^\s:/@\"']{{1,100}}:){_NOT_YET}"
    rf"(?:[^\s:/@\"'\[\]]{{3,200}}(?=@[\w.-]{{1,200}}:\d{{2,5}}(?!\d))|{_STRONG}(?=@[\w.-]))"
)
_AUTHORIZATION = re.compile(
    r"(?i)\b(authorization\s{0,3}[:=]\s{0,3}(?:[a-z]{3,12}\s{1,3})?|bearer\s{1,3})"
    + _NOT_YET
    + r"[A-Za-z0-9._~+/=-]{8,2048}+(?!\s{1,3}\[redacted )"  # that was a scheme, the token is gone
)
_BASIC = re.compile(r"(?i)(?<![a-z])(basic[\s:]{1,3})([A-Za-z0-9+/_-]{8,1024}={0,2})")
_VENDORS = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"sk-[A-Za-z0-9_-]{16,256}|[srp]k_(?:live|test)_[A-Za-z0-9]{10,256}|whsec_[A-Za-z0-9]{16,256}"
    r"|gh[pousr]_[A-Za-z0-9]{20,256}|github_pat_[A-Za-z0-9_]{20,256}|glpat-[A-Za-z0-9_-]{16,256}"
    r"|xox[abeprs]-[A-Za-z0-9-]{10,256}|A[KS]IA[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{35}"
    r"|hf_[A-Za-z0-9]{20,256}|npm_[A-Za-z0-9]{36}|glsa_[A-Za-z0-9_]{20,128}"
    r"|dop_v1_[0-9a-f]{64}|shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}|ya29\.[A-Za-z0-9_-]{20,512}"
    r"|SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,128}|roc_[A-Za-z0-9]{1,64}_[A-Za-z0-9_-]{1,256}"
    r"|eyJ[A-Za-z0-9_-]{8,2048}\.[A-Za-z0-9_-]{4,4096}\.[A-Za-z0-9_-]{0,2048}"
    r")"
)
_WEBHOOK = re.compile(r"(hooks\.slack\.com/(?:services|workflows)/)[A-Za-z0-9/_-]{8,200}")
# A colon alone joins the words of a key name (`password:reset:7`): only `: ` assigns.
_ASSIGNED = re.compile(
    rf"(?i)({_SENSITIVE}[\"']?(?:\s{{0,3}}=\s{{0,3}}|\s{{0,3}}[:\uff1a]\s{{1,3}}|:(?=[\"'])))"
    + _NOT_YET
    + _VALUE
)
_SHORT_ASSIGNED = re.compile(
    r"(?i)((?<![a-z])(?:pass|token|sig|signature)=)" + _NOT_YET + r"[^\s\"',;&\[\]{}()<>]{6,512}"
)
_JOINED = re.compile(rf"((?i:{_SENSITIVE}):){_NOT_YET}{_STRONG}(?![^\s:|,;\"'])")
_PARAMETER = re.compile(
    r"(?i)\b((?:requirepass|masterauth|tls-key-file-pass|sentinel-pass)[\"']?\s{1,3})"
    r"(?!(?:and|as|at|by|for|from|has|in|is|may|must|of|on|or|the|to|together|with)\b)"
    + _NOT_YET
    + _VALUE
)
_AUTH = re.compile(
    rf"((?:\bAUTH2?|[\"'](?i:auth2?)[\"'])\s{{1,3}}){_NOT_YET}{_VALUE}"
    rf"(?:\s{{1,3}}{_NOT_YET}{_VALUE})?"
)
_AUTH_ALONE = re.compile(
    rf"(?i)\A(\s{{0,3}}auth\s{{1,3}}){_NOT_YET}{_VALUE}(?:\s{{1,3}}{_VALUE})?\s*\Z"
)
_ACL_PASSWORD = re.compile(
    rf"(?i)(\bsetuser\s{{1,3}}\S{{1,200}}[^\n]{{0,300}}?\s[><#!]){_NOT_YET}\S{{1,512}}"
)
_OPTION = re.compile(
    rf"(?i)(\b(?:redis|valkey)-cli\b[^\n]{{0,200}}?\s(?:-a|--pass)\s{{1,3}}"
    rf"|\bcurl\b[^\n]{{0,200}}?\s(?:-u|--user)\s{{1,3}}[^\s:]{{1,100}}:){_NOT_YET}{_VALUE}"
)
_EMAIL = re.compile(
    r"(?<![\w.+-])(?:\"[^\"\n@]{1,64}\"|[\w.+-]{1,64})@[\w-]{1,63}(?:\.[\w-]{1,63}){0,4}"
    r"\.[^\W\d_]{2,24}(?![\w-])"
)
_CARD = re.compile(
    r"(?<![0-9A-Fa-f.])(?<![A-Za-z]{2}[-])(?:\d{14,16}|\d{4}([ ._:-])\d{4}\1\d{4}\1\d{4}"
    r"|\d{4}([ ._:-])\d{6}\2\d{5})(?![0-9A-Za-z]|\.\d)"
)
# Issuers' first digits: time stamps and sequence numbers start otherwise.
_ISSUER = re.compile(
    r"4\d{15}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|6(?:011|5\d\d|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}"
)
_IBAN = re.compile(
    r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[A-Z0-9]{11,30}|(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?)"
    r"(?![A-Za-z0-9])"
)
_PHONE = re.compile(r"(?<![\w+])\+[1-9](?:\d{9,14}|\d{0,2}(?:[ .-]\d{2,5}){2,4})(?![\w])")
BASE64 = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{16,4096}={0,2}(?![A-Za-z0-9+/_=-])")


def _card(found: re.Match[str]) -> str:
    digits = re.sub(r"\D", "", found[0])
    return CARD if _ISSUER.fullmatch(digits) and _luhn(digits) else found[0]


def _luhn(digits: str) -> bool:
    doubled = (int(d) * (2 if at % 2 else 1) for at, d in enumerate(reversed(digits)))
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def _iban(found: re.Match[str]) -> str:
    account = found[0].replace(" ", "")
    moved = account[4:] + account[:4]
    number = int("".join(str(int(c, 36)) for c in moved))
    return ACCOUNT if len(account) <= 34 and number % 97 == 1 else found[0]


def _basic(found: re.Match[str]) -> str:
    said = decoded(found[2])
    return f"{found[1]}{TOKEN}" if ":" in said else found[0]


def decoded(text: str) -> str:
    """What base64 hides, if it is plain text; else empty."""
    raw = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        said = base64.b64decode(raw + "=" * (-len(raw) % 4)).decode()
    except ValueError:
        return ""
    return said if said.isprintable() else ""


_PLAIN = (
    Shape(_PEM, TOKEN, ("-----BEGIN",)),
    Shape(_URL_USER, rf"\1{PASSWORD}@", ("://",)),
    Shape(_URL_CUT, rf"\1{PASSWORD}", ("…",)),
    Shape(_AUTHORIZATION, rf"\1{TOKEN}"),
    Shape(_BASIC, _basic),
    Shape(_VENDORS, TOKEN, ("-", "_", ".", "KIA", "SIA", "AIza")),
    Shape(_WEBHOOK, rf"\1{TOKEN}", ("hooks.",)),
    Shape(_ASSIGNED, rf"\1{PASSWORD}", ("=", ":", "\uff1a")),
    Shape(_SHORT_ASSIGNED, rf"\1{PASSWORD}", ("=",)),
    Shape(_JOINED, rf"\1{PASSWORD}", (":",)),
    Shape(_PARAMETER, rf"\1{PASSWORD}", (" ", "\t", "\n")),
    Shape(_AUTH, rf"\1{PASSWORD}", ("AUTH", "auth", "Auth")),
    Shape(_AUTH_ALONE, rf"\1{PASSWORD}", ("AUTH", "auth", "Auth")),
    Shape(_ACL_PASSWORD, rf"\1{PASSWORD}", (">", "<", "#", "!")),
    Shape(_OPTION, rf"\1{PASSWORD}", (" -",)),
    Shape(_PAIR_AT, rf"\1{PASSWORD}", ("@",)),
    Shape(_EMAIL, EMAIL, ("@",)),
    Shape(_EMAIL_CUT, EMAIL, ("@",)),
    Shape(_CARD, _card),
    Shape(_IBAN, _iban),
    Shape(_PHONE, PHONE, ("+",)),
)


def without_secrets(text: str) -> str:
    """The text without secrets that stand in it as they are."""
    for shape in _PLAIN:
        text = shape.without(text)
    return text
