"""A file at an address that the other side of a call gave: a sound too large for the call, or a result kept elsewhere.

Both sides are ours, yet an address is checked as a link is (infra/links.py): https, to a public address, no redirect;
anything else only where ALLOWED_HOSTS names it. A name that leads elsewhere at its second look-up fails at the
certificate.
"""

from __future__ import annotations

import httpx

from infra import links
from infra.errors import DownloadFailed, LinkRefused, TooLarge
from infra.settings import settings

TIMEOUT = 30.0  # seconds without a byte
MEGABYTE = 1 << 20


def fetched(url: str, limit_mb: int) -> bytes:
    try:
        where = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise LinkRefused(host="The far side", reason="it named what is no address") from error
    if where.scheme != "https":
        links.parse(url, settings().allowed_hosts)
    links.resolve(where.host, where.port or 443, settings().allowed_hosts)
    content = bytearray()
    try:
        with httpx.stream("GET", where, timeout=TIMEOUT) as answer:
            if answer.status_code >= 500 or answer.status_code == 429:
                raise DownloadFailed(reason=f"{where.host} answered {answer.status_code}.")
            if answer.status_code != 200:
                raise LinkRefused(host=where.host, reason=f"it answered {answer.status_code}")
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > limit_mb * MEGABYTE:
                    raise TooLarge(limit_mb=limit_mb)
    except httpx.HTTPError as error:
        raise DownloadFailed(reason=f"the connection to {where.host} failed.") from error
    return bytes(content)
