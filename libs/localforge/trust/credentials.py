"""Detect credentials: private keys, provider keys, tokens, passwords. All are `restricted`.

Each search starts from a literal that a credential of its kind must have, so that text without it
costs next to nothing.
"""

import base64
import binascii
import re
from collections.abc import Iterator

from localforge.contracts.trust import Label
from localforge.trust.announced import LOGIN_WORDS, has_login, has_password, has_secret
from localforge.trust.findings import Finding
from localforge.trust.normal import Content
from localforge.trust.search import after, words

PRIVATE_KEY = Finding("private_key", Label.RESTRICTED)
API_KEY = Finding("api_key", Label.RESTRICTED)
JWT = Finding("jwt", Label.RESTRICTED)
PASSWORD = Finding("password", Label.RESTRICTED)

_API_KEYS = {
    literal: re.compile(r"(?<![A-Za-z0-9])" + pattern)
    for literal, pattern in {
        "sk-": r"sk-[A-Za-z0-9_-]{20,}",
        "sk_live_": r"sk_live_[A-Za-z0-9]{16,}",
        "sk_test_": r"sk_test_[A-Za-z0-9]{16,}",
        "rk_live_": r"rk_live_[A-Za-z0-9]{16,}",
        "rk_test_": r"rk_test_[A-Za-z0-9]{16,}",
        "whsec_": r"whsec_[A-Za-z0-9+/]{24,}",
        "AKIA": r"AKIA[0-9A-Z]{16}(?![0-9A-Za-z])",
        "ASIA": r"ASIA[0-9A-Z]{16}(?![0-9A-Za-z])",
        "AIza": r"AIza[0-9A-Za-z_-]{35}",
        "ya29.": r"ya29\.[0-9A-Za-z_-]{20,}",
        "ghp_": r"ghp_[A-Za-z0-9]{36}",
        "gho_": r"gho_[A-Za-z0-9]{36}",
        "ghu_": r"ghu_[A-Za-z0-9]{36}",
        "ghs_": r"ghs_[A-Za-z0-9]{36}",
        "ghr_": r"ghr_[A-Za-z0-9]{36}",
        "github_pat_": r"github_pat_[A-Za-z0-9_]{22,}",
        "glpat-": r"glpat-[A-Za-z0-9_-]{20,}",
        "xox": r"xox[abeoprs]-[A-Za-z0-9-]{10,}",
        "xapp-": r"xapp-[A-Za-z0-9-]{20,}",
        "GOCSPX-": r"GOCSPX-[A-Za-z0-9_-]{20,}",
        "hf_": r"hf_[A-Za-z0-9]{30,}",
        "gsk_": r"gsk_[A-Za-z0-9]{32,}",
        "xai-": r"xai-[A-Za-z0-9]{32,}",
        "fw_": r"fw_(?=[A-Za-z]{0,40}\d)[A-Za-z0-9]{20,}",
        "tgp_v1_": r"tgp_v1_[A-Za-z0-9_-]{20,}",
        "r8_": r"r8_[A-Za-z0-9]{30,}",
        "nvapi-": r"nvapi-[A-Za-z0-9_-]{32,}",
        "pplx-": r"pplx-[A-Za-z0-9]{32,}",
        "hvs.": r"hvs\.[A-Za-z0-9_-]{20,}",
        "shpat_": r"shpat_[A-Fa-f0-9]{32}",
        "dckr_pat_": r"dckr_pat_[A-Za-z0-9_-]{20,}",
        "AGE-SECRET-KEY-": r"AGE-SECRET-KEY-[A-Z0-9-]{40,}",
        "npm_": r"npm_[A-Za-z0-9]{36}",
        "pypi-": r"pypi-[A-Za-z0-9_-]{50,}",
        "SG.": r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
        "dop_v1_": r"dop_v1_[0-9a-f]{64}",
        "AccountKey=": r"AccountKey=[A-Za-z0-9+/]{40,}",
    }.items()
}
_MARKS = "-_.="
"""All keys but three have one of these."""
_API_KEY_WORDS = words(*(literal.lower() for literal in _API_KEYS))
_PUTTY = "putty-user-key-file"
words("private key", _PUTTY)
_PRIVATE_KEY = re.compile(r"---- ?begin [a-z0-9 ]{0,32}private key")
_JWT_WORDS = words("eyj")
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}")
_AUTHORIZATION_WORDS = words("bearer ", "basic ")
_BASIC = re.compile(r"[A-Za-z0-9+/]{8,256}={0,2}")
_AUTHORIZATION = re.compile(r"[a-z0-9._~+/=-]{20,}")
_URL_PASSWORD = re.compile(r"://[^\s/:@\"']{0,64}:([^\s/@\"']{3,128})@")

_PASSWORD_WORDS = words(
    "password", "passwort", "passwd", "pwd", "passphrase", "passcode", "kennwort", "contraseña",
    "mot de passe", "mot_de_passe",
)  # fmt: skip
_PASSWORD = re.compile(
    r"['\"]?(?: ?(?:=>|:=|[:=])|(?: for \S{1,40})? (?:is|ist|lautet|es|est):?)"
    r" ?(['\"]?)([^\s'\"<>{}()\[\],;]{4,128})"
)
_PASS_WORDS = words("pass", "dbpass", "userpass")
_PASS = re.compile(
    r"(?:['\"]? ?(?::|=>|=) ?['\"]|=|(?:(?<=[_-]pass)|(?<=[br]pass)) ?[:=] ?)"
    r"(?=[^\s'\"]{0,127}[\d!@#$%^&*+?])(?=[^\s'\"]{0,127}[a-z])(?!\d[\d.]{0,8}[a-z]{1,3}\b)"
    r"([^\s'\"<>{}()\[\],;]{4,128})"
)
"""Behind the mere word, which has other meanings, an assignment of what has letters and others."""
_SECRET_WORDS = words(
    "secret", "token", "api_key", "apikey", "api-key", "api key", "access_key",
    *(
        f"{use}{separator}key"
        for use in ("encryption", "signing", "secret", "master", "hmac")
        for separator in ("", " ", "_", "-")
    ),
)  # fmt: skip
_SECRET = re.compile(r"['\"]? ?(?:=>|:=|[:=]) ?['\"]?([a-z0-9._~+/=-]{16,256})")
_PLACEHOLDER = re.compile(
    r"[x*.•_-]+|(?:your|my|the|some|new|old|user|db|admin|test|dummy|example|change|enter|insert)"
    r"[_-]?(?:password|passwd|pwd|pass|secret|token|key|here|me)?[a-z_-]*|password|passwort|secret"
    r"|string|str|none|null|true|false|required|undefined|hidden|redacted"
)


def find_credentials(content: Content) -> Iterator[Finding]:
    """Yield keys, tokens and passwords."""
    text, lower, held = content.text, content.lower, content.words
    if _PUTTY in held or ("private key" in held and _PRIVATE_KEY.search(lower)):
        yield PRIVATE_KEY
    if (held & _API_KEY_WORDS and _has_api_key(text)) or (
        content.left_out and _has_api_key(content.left_out)
    ):
        yield API_KEY
    if held & _JWT_WORDS and "eyJ" in text and _JWT.search(text):
        yield JWT
    if (found := held & _AUTHORIZATION_WORDS) and any(
        _has_digit(m[0]) for m in after(lower, found, _AUTHORIZATION)
    ):
        yield API_KEY
    if "basic " in held and _has_basic(text, lower):
        yield PASSWORD
    if (found := held & _SECRET_WORDS) and _has_secret(lower, found):
        yield API_KEY
    if _has_password(lower, held):
        yield PASSWORD


def _has_secret(lower: str, found: frozenset[str]) -> bool:
    return any(
        _has_digit(m[1]) and not _PLACEHOLDER.fullmatch(m[1])
        for m in after(lower, found, _SECRET, at_word_start=False)
    ) or has_secret(lower, found)


def _has_password(lower: str, held: frozenset[str]) -> bool:
    if (found := held & _PASSWORD_WORDS) and (
        any(
            _is_password(value=m[2], quoted=bool(m[1]))
            for m in after(lower, found, _PASSWORD, at_word_start=False)
        )
        or has_password(lower, found)
    ):
        return True
    if any(_is_password(value=m[1], quoted=False) for m in after(lower, held & _PASS_WORDS, _PASS)):
        return True
    if (found := held & LOGIN_WORDS) and has_login(lower, found):
        return True
    return (
        "@" in lower
        and "://" in lower
        and any(not _PLACEHOLDER.fullmatch(m[1]) for m in _URL_PASSWORD.finditer(lower))
    )


def _has_api_key(text: str) -> bool:
    marks = [mark for mark in _MARKS if mark in text]
    return any(
        _has_key(text, literal, key)
        for literal, key in _API_KEYS.items()
        # Encoded media of many megabytes has none of them, and would be read twenty times.
        if literal.isalnum() or any(mark in literal for mark in marks)
    )


def _has_key(text: str, literal: str, key: re.Pattern[str]) -> bool:
    start = text.find(literal)
    while start >= 0:
        if key.match(text, start):
            return True
        start = text.find(literal, start + 1)
    return False


def _has_basic(text: str, lower: str) -> bool:
    """Say whether `Basic` is followed by a name and a password, encoded."""
    for match in after(lower, ("basic ",), _BASIC):
        try:
            decoded = base64.b64decode(text[match.start() : match.end()], validate=True)
        except binascii.Error:
            continue
        if b":" in decoded and decoded.isascii() and decoded.decode().isprintable():
            return True
    return False


def _is_password(*, value: str, quoted: bool) -> bool:
    """Tell a password from a word or a variable: quoted, or with a digit or special character."""
    if _PLACEHOLDER.fullmatch(value) or value.startswith(("$", "os.", "process.env", "self.")):
        return False
    return quoted or _has_digit(value) or not value.replace("_", "").replace(".", "").isalnum()


def _has_digit(value: str) -> bool:
    return any("0" <= char <= "9" for char in value)
