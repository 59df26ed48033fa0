"""The YouTube login that an operator gives: read, judged, and copied for one run. Never logged, never in a repr."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from pydantic import SecretStr

from infra.settings import Settings, settings

STALE_COOKIES = "stale cookies"  # what a download notices that YouTube took for a stranger's

# A line of Netscape's format: domain, subdomains too, path, only over TLS, expires, name, value.
_LINE = re.compile(
    r"(#HttpOnly_)?([^\t#][^\t]*)\t[^\t]*\t([^\t]*)\t([^\t]*)\t([0-9]{0,15})(?:\.[0-9]*)?\t([^\t]*)\t([^\t]*)"
)
_DOMAIN = re.compile(r"\.?(www\.)?youtube\.com", re.IGNORECASE)
_ALWAYS, _ONE_OF = "LOGIN_INFO", frozenset({"SAPISID", "__Secure-1PAPISID", "__Secure-3PAPISID"})  # as yt-dlp asks
_LOGIN = _ONE_OF | {_ALWAYS, "SID", "HSID", "SSID", "__Secure-1PSID", "__Secure-3PSID"}
_LAST = 253_402_300_799  # seconds to the end of the year 9999; some browsers write more


@dataclass(frozen=True, slots=True)
class Cookies:
    content: str = field(repr=False)  # lines that yt-dlp reads without a word about them
    digest: str  # of what was given: a name for it that tells nothing
    expires: datetime | None = None  # the first of the cookies that a login consists of; None if none of them does
    problem: str | None = None  # why YouTube would see a stranger, as a sentence

    def copy(self, folder: Path) -> Path:
        """A private copy: yt-dlp writes into the file that it is given."""
        path = folder / ".cookies"
        path.touch(mode=0o600, exist_ok=False)
        path.write_text("# Netscape HTTP Cookie File\n" + self.content, encoding="utf-8")
        return path


@dataclass(frozen=True, slots=True)
class _Line:
    written: str
    domain: str
    expires: int
    name: str


def cookies(configured: Settings | None = None) -> Cookies | None:
    """What the settings give: YOUTUBE_COOKIES_CONTENT, else YOUTUBE_COOKIES_B64; None without either."""
    configured = configured or settings()
    given = configured.youtube_cookies_content or configured.youtube_cookies_b64
    if given is None:
        return None
    digest = sha256(given.get_secret_value().encode(errors="replace")).hexdigest()[:8]
    text = given.get_secret_value() if configured.youtube_cookies_content else _decoded(given)
    if text is None:
        return Cookies("", digest, problem="YOUTUBE_COOKIES_B64 is not base64 of a text.")
    lines = [line for line in map(_read, text.splitlines()) if line]
    login = [line for line in lines if line.name in _LOGIN and _DOMAIN.fullmatch(line.domain)]
    times = [line.expires for line in login if line.expires]
    expires = datetime.fromtimestamp(min(*times, _LAST), UTC) if times else None
    return Cookies("".join(line.written for line in lines), digest, expires, _problem(lines, login, expires))


def _problem(lines: list[_Line], login: list[_Line], expires: datetime | None) -> str | None:
    names = {line.name for line in login}
    if not lines:
        return "The YouTube cookies are not in Netscape's format."
    if _ALWAYS not in names or not names & _ONE_OF:
        return "The YouTube cookies hold no login: YouTube would see a stranger."
    if expires is not None and expires <= datetime.now(UTC):
        return f"The YouTube cookies expired on {expires.day} {expires:%B %Y}."
    return None


def _decoded(given: SecretStr) -> str | None:
    try:
        return base64.b64decode("".join(given.get_secret_value().split()), validate=True).decode()
    except ValueError:
        return None


def _read(text: str) -> _Line | None:
    """One cookie as it may be written for yt-dlp: a line that it cannot read it prints, secrets and all."""
    found = _LINE.fullmatch(text.encode(errors="replace").decode())
    if found is None:
        return None
    prefix, domain, path, secure, expires, name, value = found.groups(default="")
    below = "TRUE" if domain.startswith(".") else "FALSE"  # Python's reader insists that the two agree
    written = "\t".join((prefix + domain, below, path, secure, expires, name, value))
    return _Line(f"{written}\n", domain, int(expires or 0), name)
