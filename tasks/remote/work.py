"""The far side: an order done on the machine that got it, whoever lent that machine.

The answer to a song's order is kept for a day under its token. An order may come twice: where the answer to a call got
lost, it is called again. Where the data folder outlives the worker (a volume), the second one costs no work.
"""

from __future__ import annotations

import base64
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial, wraps
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from infra.errors import BadRequest, ProviderNotReady, UserError
from infra.jobs.request import PIPELINE_VERSION, Request
from infra.jobs.stages import Progress, Stage
from infra.settings import settings
from tasks import gpu
from tasks.download import download
from tasks.download.ladder import NoBreakers, climb
from tasks.download.routes import Route, ladder
from tasks.remote import sound, wire
from tasks.remote.fetch import fetched
from tasks.song import Audio

KEPT = 24 * 3600.0  # seconds
PAUSE = 1.0  # seconds between two pieces of news within a stage

Answer = dict[str, Any]
Tell = Callable[[dict[str, Any]], None]
Work = Callable[[Mapping[str, Any], Tell], Answer]


def answering(work: Work) -> Work:
    """Only what is nobody's mistake is raised: the provider tells of that."""

    @wraps(work)
    def answer(order: Mapping[str, Any], tell: Tell) -> Answer:
        try:
            _check_version(order)
            return work(order, tell)
        except UserError as error:
            return wire.refused(error)

    return answer


@answering
def work(order: Mapping[str, Any], tell: Tell) -> Answer:
    """The answer to the order of a song."""
    kept = settings().data / "answers" / f"{Path(str(order.get('token') or 'unnamed')).name}.json"
    if answer := _kept(kept):
        return answer
    answer = wire.answered(_sing(order, tell))
    _keep(kept, answer)
    return answer


@answering
def fetch(order: Mapping[str, Any], tell: Tell) -> Answer:
    """The answer to the order of a video's sound: by the routes from here that need no login, each tried once."""
    link, report = sound.link(order), _telling(tell)
    say = partial(report, Stage.DOWNLOAD, 0.0)
    say("Downloading")
    with tempfile.TemporaryDirectory(prefix="ytl-") as folder:
        take = partial(download, link, Path(folder), report)
        return sound.answered(climb(anonymous(str(order["provider"])), take, NoBreakers(), say))


def anonymous(at: str) -> list[Route]:
    """The routes that a stranger can take from this machine."""
    return [route for route in ladder(settings(), at) if route.means == "ytdlp" and not route.signed_in]


def _check_version(order: Mapping[str, Any]) -> None:
    asked = order.get("pipeline", PIPELINE_VERSION)
    if asked != PIPELINE_VERSION:
        reason = f"its worker is of version {PIPELINE_VERSION}, not {asked}: deploy it again"
        raise ProviderNotReady(provider=order.get("provider", "The provider"), reason=reason)


def _sing(order: Mapping[str, Any], tell: Tell) -> Any:
    try:
        request = Request.model_validate(order["request"])
        sound = _sound(order)
    except (KeyError, ValueError, TypeError, ValidationError) as error:
        raise BadRequest(what="The worker does not understand this order: deploy it again.") from error
    with tempfile.TemporaryDirectory(prefix="ytl-") as folder:
        path = Path(folder) / f"audio{Path('x' + str(order.get('suffix') or '')).suffix}"
        path.write_bytes(sound)
        return gpu.sing(
            Audio(path, 0.0, title=order.get("title") or "the audio", lyrics=order.get("lyrics")),
            request,
            _telling(tell),
        )


def _sound(order: Mapping[str, Any]) -> bytes:
    if "audioUrl" in order:
        return fetched(order["audioUrl"], settings().max_megabytes)
    sound = order["audio"]
    return sound if isinstance(sound, bytes) else base64.b64decode(sound, validate=True)


def _telling(tell: Tell) -> Progress:
    """Progress as news, once a second within a stage: each piece is a request to the provider."""
    before: Stage | None = None
    told_at = 0.0

    def report(stage: Stage, share: float, message: str, *, step: bool = False) -> None:
        nonlocal before, told_at
        if stage is before and not step and time.monotonic() - told_at < PAUSE:
            return
        before, told_at = stage, time.monotonic()
        tell({"stage": stage.value, "share": round(share, 3), "message": message})

    return report


def _kept(file: Path) -> Answer | None:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None


def _keep(file: Path, answer: Answer) -> None:
    """Keep the answer, and let go of old ones. A disk that is full costs only this."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        for old in file.parent.iterdir():
            if time.time() - old.stat().st_mtime > KEPT:
                old.unlink(missing_ok=True)
        partial = file.with_suffix(".part")
        partial.write_text(json.dumps(answer))
        partial.replace(file)
    except OSError:
        pass
