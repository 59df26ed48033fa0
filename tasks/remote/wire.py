"""What travels between a run and the far side, in plain values that JSON holds; of a video's sound, see sound.py.

An order: `token`, `provider`, `pipeline`, `request`, `suffix`, `title`, `lyrics` (found for it), and the sound:
`audio` (bytes, or the same in base64) or `audioUrl`. News: `stage`, `share`, `message`; from workers of the system
before this one a bare 0–100.
An answer: the contract's document, or `error` (a sentence) with `kind`, `name` and `fields`, from which the same error
is made here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, cast

from infra import errors
from infra.errors import BadRequest, ProviderFailed, UserError
from infra.jobs.request import HOW, PIPELINE_VERSION, Format, Request
from infra.jobs.stages import SHARES, Stage
from tasks.lines import break_lines, in_order
from tasks.quality import judged
from tasks.render import document, read
from tasks.song import Audio, Song

Order = dict[str, Any]
News = tuple[Stage, float, str]

WORK = (30, 95)  # percent of the job that the far side's own 0–100 fills
STAGES = [stage for stage, (begin, end) in SHARES.items() if WORK[0] <= begin < end <= WORK[1]]
SHOWN = 200  # characters of somebody else's error that a user reads


# --- an order -----------------------------------------------------------------------------------


def order(audio: Audio, request: Request, provider: str) -> Order:
    """The order without the sound. Its token is the same whenever the same work is asked for."""
    with audio.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "token": request.fingerprint(f"{digest} {audio.lyrics}" if audio.lyrics else digest),
        "provider": provider,
        "pipeline": PIPELINE_VERSION,
        "request": {"link": "-"} | request.model_dump(mode="json", exclude=set(HOW), exclude_defaults=True),
        "suffix": audio.path.suffix,
        "title": audio.title,
        **({"lyrics": audio.lyrics} if audio.lyrics else {}),
    }


# --- news ---------------------------------------------------------------------------------------


def news(told: Any, stages: Collection[Stage] = STAGES) -> News | None:
    """What the far side tells of its progress in these stages; None for what makes no sense."""
    entries = cast(Mapping[str, Any], told) if isinstance(told, Mapping) else {"progress": told}
    message = shown(str(entries.get("message") or "Transcribing"))
    place = _named(entries) if "stage" in entries else _counted(entries)
    return (*place, message) if place and place[0] in stages else None


def _named(entries: Mapping[str, Any]) -> tuple[Stage, float] | None:
    try:
        return Stage(entries["stage"]), float(entries.get("share") or 0.0)
    except (ValueError, TypeError):
        return None


def _counted(entries: Mapping[str, Any]) -> tuple[Stage, float] | None:
    number = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%?\s*", str(entries.get("progress", entries.get("percentage"))))
    return _place(float(number[1])) if number else None


def _place(percentage: float) -> tuple[Stage, float]:
    """Where the far side's 0–100 stands among the stages."""
    begin, end = WORK
    here = begin + (end - begin) * min(percentage, 100.0) / 100
    stage = next((stage for stage in STAGES if here < SHARES[stage][1]), STAGES[-1])
    first, last = SHARES[stage]
    return stage, (here - first) / (last - first)


# --- an answer ----------------------------------------------------------------------------------


def answered(song: Song) -> dict[str, Any]:
    return document(song)


def refused(error: UserError) -> dict[str, Any]:
    return {"error": str(error), "kind": error.kind, "name": type(error).__name__, "fields": error.fields}


def song(answer: Any, audio: Audio, provider: str) -> Song:
    """The song of an answer; raises the error of one that holds an error.

    Lines are ours, and their words in order; a document of words alone may be anybody's.
    """
    if isinstance(answer, Mapping) and "error" in answer:
        raise failure(cast(Mapping[str, Any], answer), provider)
    try:
        heard = read(json.dumps(answer, allow_nan=False), Format.JSON)
        if "lines" not in answer:
            words = in_order(heard.words, heard.duration or audio.duration)
            heard = judged(replace(heard, lines=break_lines(words, heard.language)))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ProviderFailed(provider=provider, reason="its answer cannot be read") from error
    duration = heard.duration or audio.duration or max((word.end for word in heard.words), default=0.0)
    return replace(heard, duration=duration, title=audio.title, artist=audio.artist, video_id=audio.video_id)


def failure(answer: Mapping[str, Any], provider: str) -> UserError:
    """The error that was raised there, or the nearest that we have."""
    kind = getattr(errors, str(answer.get("name")), None)
    fields = answer.get("fields")
    if isinstance(kind, type) and issubclass(kind, UserError) and isinstance(fields, Mapping):
        try:
            return kind(**cast(Mapping[str, Any], fields))
        except (KeyError, ValueError, TypeError):
            pass  # an error of another version
    sentence = shown(str(answer["error"]))
    if answer.get("kind") == "permanent":
        return BadRequest(what=sentence)
    return ProviderFailed(provider=provider, reason=sentence)


def shown(text: str) -> str:
    """Somebody else's words as they fit into a sentence of ours."""
    line = next((line for line in text.splitlines() if line.strip()), "no reason given")
    return " ".join(line.split()).rstrip(".")[:SHOWN]
