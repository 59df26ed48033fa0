"""What is sung in each 20 ms of a song, letter by letter, as a wav2vec2 model hears it."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# (torch is typed in part, whisperx not at all)

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tasks import models
from tasks.align.viterbi import Floats
from tasks.audio import RATE, Samples, clock
from tasks.models import Report
from tasks.voice import Span

HOP = 320  # samples from one frame to the next, in every wav2vec2
FIELD = 400  # samples that a frame hears
FRAME = HOP / RATE  # seconds

PIECE = 1000  # frames that the model hears at once: 20 s, as much as it has heard in training
CONTEXT = 100  # frames at a piece's ends that are left to its neighbours, which hear what is around them
BATCH = 8  # pieces at a time on a GPU

UNHEARD = -20.0  # log-likelihood of all letters where the model was not asked
FAINTEST = -30.0  # the least of any


class Broken(Exception):
    """The model does not load, or does not work."""


class NoRoom(Exception):
    """The GPU's memory is full."""


@dataclass(frozen=True, slots=True)
class Aligner:
    model: Any  # a Wav2Vec2ForCTC
    letters: dict[str, int]  # in lower case, with their columns in the model's answer
    blank: int  # its column
    on: str  # cuda or cpu
    normalised: bool  # whether it was trained on sound of mean 0 and variance 1


@dataclass(frozen=True, slots=True)
class Emission:
    logs: Floats  # frames × columns: log-likelihoods of what is sung
    columns: dict[str | None, int]  # of each letter; of any, by None. The first column is "no letter"


def load(folder: Path, on: str) -> Aligner:
    """The model on `cuda` or `cpu`, kept for later songs of this process."""
    models.on_all_threads()
    with _failing():
        return models.hold(key(folder, on), lambda: _load(folder, on))


def key(folder: Path, on: str) -> tuple[str, Path, str]:
    return ("align", folder, on)


def listen(
    aligner: Aligner, samples: Samples, spans: Sequence[Span], letters: Sequence[str], report: Report
) -> Emission:
    """How likely each of the letters is in each frame of the spans."""
    frames = -(-len(samples.values) // HOP)
    heard = np.full((frames, len(letters) + 2), UNHEARD, np.float32)
    heard[:, 0] = 0.0
    values = np.pad(_scaled(samples.values, aligner.normalised), (0, FIELD))
    length = min(PIECE, frames)
    places = [(at, kept) for at, kept in _places(frames, length) if any(_touches(kept, span) for span in spans)]
    batch = BATCH if aligner.on == "cuda" else 1
    for done in range(0, len(places), batch):
        some = places[done : done + batch]
        now = clock(some[0][1].start * FRAME)
        report(done / len(places), f"Timing the words: {now} of {clock(samples.duration)}")
        sounds = np.stack([values[at * HOP : (at + length - 1) * HOP + FIELD] for at, _ in some])
        with _failing():
            answers = _answers(aligner, sounds, letters)
            for (at, kept), answer in zip(some, answers, strict=True):
                heard[kept.start : kept.stop] = answer[kept.start - at : kept.stop - at]
    columns: dict[str | None, int] = {letter: place for place, letter in enumerate(letters, 1)}
    return Emission(heard, {**columns, None: len(letters) + 1})


def _places(frames: int, length: int) -> Generator[tuple[int, range]]:
    """Where each piece begins, and the frames for which it is believed. All are as long: the last begins earlier."""
    first = 0
    while first < frames:
        begin = max(min(first - CONTEXT, frames - length), 0)
        end = begin + length
        after = end - CONTEXT if end < frames else frames
        yield begin, range(first, after)
        first = after


def _touches(kept: range, span: Span) -> bool:
    return kept.start * FRAME < span.end and span.start < kept.stop * FRAME


def _scaled(values: NDArray[np.float32], normalised: bool) -> NDArray[np.float32]:
    """By the song, not by the piece: or else its quiet parts would be loud."""
    return (values - values.mean()) / max(float(values.std()), 1e-5) if normalised else values


def _answers(aligner: Aligner, sounds: NDArray[np.float32], letters: Sequence[str]) -> Floats:
    """pieces × frames × columns. Only the columns that are asked for: Chinese models have thousands."""
    import torch

    columns = [aligner.blank, *(aligner.letters[letter] for letter in letters)]
    half = models.half(aligner.on)  # as right, and half again as fast
    with torch.inference_mode(), torch.autocast(aligner.on, half, enabled=half is not None):
        logits = aligner.model(torch.from_numpy(sounds).to(aligner.on)).logits.float()
        logs = torch.log_softmax(logits, dim=-1)
        every = logs[..., list(aligner.letters.values())].max(dim=-1, keepdim=True).values
        chosen = torch.cat((logs[..., columns], every), dim=-1).cpu().numpy()
    return np.maximum(np.nan_to_num(chosen, nan=FAINTEST), FAINTEST).astype(np.float32)


def _load(folder: Path, on: str) -> Aligner:
    with _quiet():
        from whisperx.alignment import load_align_model

        loaded: Any = load_align_model("", on, str(folder), model_cache_only=True)
    model, known = loaded[0].float(), cast("dict[str, int]", loaded[1]["dictionary"])
    blank = next((known[name] for name in ("<pad>", "[pad]") if name in known), 0)
    letters = {letter: column for letter, column in known.items() if len(letter) == 1 and letter != "|"}
    try:
        normalised = json.loads((folder / "preprocessor_config.json").read_text()).get("do_normalize", True)
    except FileNotFoundError:
        normalised = True
    return Aligner(model.eval(), letters, blank, on, bool(normalised))


@contextmanager
def _quiet() -> Generator[None]:
    """WhisperX prints why a model fails, transformers warns of weights that only training needs: not to users."""
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        from transformers.utils import logging as transformers_log

        before = transformers_log.get_verbosity()
        transformers_log.set_verbosity_error()
        try:
            yield
        finally:
            transformers_log.set_verbosity(before)


@contextmanager
def _failing() -> Generator[None]:
    """Whatever a model that anybody may have made does wrong is one of two things here."""
    try:
        yield
    except Exception as error:
        if "out of memory" in str(error).lower():
            raise NoRoom from error
        logging.getLogger(__name__).exception("An alignment model failed")
        raise Broken from error
