"""The sound behind a link to an allowed host, over plain HTTP: checked, pinned, and kept as it comes."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urljoin, urlsplit

import httpx

from infra import links
from infra.errors import DownloadFailed, LinkRefused
from infra.links import Link
from infra.settings import settings
from tasks.cache import safe_suffix
from tasks.download.failures import status
from tasks.download.meter import Meter
from tasks.song import Audio

CONNECT_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 20.0  # seconds of silence
MOST_REDIRECTS = 5
LONGEST_TITLE = 200  # characters

_REFUSALS = {403: "it is forbidden", 404: "there is no such file", 410: "it is gone"}


def from_web(link: Link, place: Path, meter: Meter) -> Audio:
    timeout = httpx.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT)
    url = link.url
    # Not through proxies of the environment: they would look the name up again.
    with httpx.Client(timeout=timeout, trust_env=False, follow_redirects=False) as client:
        for _ in range(MOST_REDIRECTS + 1):
            with _answer(client, url) as answer:
                if answer.has_redirect_location:
                    url = _redirected(url, answer.headers["location"])
                    continue
                _checkstatus(answer, url)
                file = place / f"audio{safe_suffix(urlsplit(url).path)}"
                _save(answer, file, meter)
                return Audio(path=file, duration=0.0, title=_title(link.url))
    raise LinkRefused(host=urlsplit(link.url).hostname, reason=f"it redirects more than {MOST_REDIRECTS} times")


@contextmanager
def _answer(client: httpx.Client, url: str) -> Generator[httpx.Response]:
    """The answer from one of the addresses that were checked, asked for by its host's name."""
    where = httpx.URL(url)
    port = where.port or (80 if where.scheme == "http" else 443)
    addresses = links.resolve(where.host, port, settings().allowed_hosts)
    try:
        answer = _first_to_answer(client, where, [str(address) for address in addresses])
        try:
            yield answer
        finally:
            answer.close()
    except httpx.TimeoutException as error:
        raise DownloadFailed(reason=f"{where.host} does not answer.") from error
    except httpx.RemoteProtocolError as error:
        raise DownloadFailed(reason=f"the connection to {where.host} broke off before the file's end.") from error
    except httpx.HTTPError as error:
        raise DownloadFailed(reason=f"the connection to {where.host} failed: {error}.") from error
    except httpx.InvalidURL as error:  # httpx reads redirects even where it does not follow them
        raise LinkRefused(host=where.host, reason="it redirects to what is no address") from error


def _first_to_answer(client: httpx.Client, where: httpx.URL, addresses: list[str]) -> httpx.Response:
    headers = {"Host": where.netloc.decode(), "Accept-Encoding": "identity", "User-Agent": "yt-lyrics"}
    failure: Exception = DownloadFailed(reason=f"{where.host} has no address.")
    for address in addresses:
        pinned = where.copy_with(host=address)
        request = client.build_request("GET", pinned, headers=headers, extensions={"sni_hostname": where.host})
        try:
            return client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            failure = error
    raise failure


def _redirected(url: str, location: str) -> str:
    """Where a redirect leads to, checked like a link that a user gave."""
    target = links.parse(urljoin(url, location), settings().allowed_hosts)
    if target.kind != "web":
        raise LinkRefused(host=urlsplit(url).hostname, reason="it redirects to a page")
    return target.url


def _checkstatus(answer: httpx.Response, url: str) -> None:
    host, code = urlsplit(url).hostname, answer.status_code
    if code in (408, 425, 429) or code >= 500:
        raise DownloadFailed(reason=f"{host} answers {status(code)}.")
    if code != HTTPStatus.OK:
        raise LinkRefused(host=host, reason=f"{_REFUSALS.get(code, 'it answers')} ({status(code)})")


def _save(answer: httpx.Response, file: Path, meter: Meter) -> None:
    length = answer.headers.get("content-length", "")
    total = int(length) if length.isdecimal() and "content-encoding" not in answer.headers else None
    done = 0
    meter(done, total)
    with file.open("wb") as target:
        for chunk in answer.iter_bytes():
            done += len(chunk)
            meter(done, total)
            target.write(chunk)


def _title(url: str) -> str | None:
    name = PurePosixPath(unquote(urlsplit(url).path)).stem
    name = "".join(character for character in name if character.isprintable()).strip()
    return name[:LONGEST_TITLE] or urlsplit(url).hostname
