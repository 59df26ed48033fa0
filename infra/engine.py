"""Prefect's HTTP API, as any part of ours calls it.

Not through Prefect's own client: importing it costs each process 1.6 s and 50 MB, and it tries again for a minute.
Nothing is tried twice here; who calls knows whether to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from infra.errors import EngineAway
from infra.once import Once
from infra.settings import settings

TIMEOUT = 10.0  # seconds


@Once
def client() -> httpx.Client:
    if not settings().prefect_api_url:
        raise EngineAway
    return httpx.Client(base_url=settings().prefect_api_url or "", headers=settings().prefect_headers, timeout=TIMEOUT)


def call(method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout: float = TIMEOUT) -> Any:
    """The answer, or None where there is no such thing, or nothing to say."""
    try:
        answer = client().request(method, path, json=body, timeout=timeout)
        if answer.status_code in (httpx.codes.NOT_FOUND.value, httpx.codes.NO_CONTENT.value):
            return None
        return answer.raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        raise EngineAway from error
