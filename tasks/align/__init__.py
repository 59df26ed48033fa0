"""Times for words that are known, by the one way through the song that is the best for all of them.

WhisperX loads the models; its own `align` is not used: it goes segment by segment, believes their times to the
hundredth, and loses its way in long ones. Here the model hears the song in pieces of 20 s, and then every letter of
the song is placed at once, those of a segment at most half a second outside it. docs/models.md has both side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import accumulate, groupby, islice
from pathlib import Path

import numpy as np

from infra.errors import NotInstalled, WeightsAway
from tasks import models, voice
from tasks.align import emission, viterbi
from tasks.align.emission import FRAME, Broken, Emission, NoRoom
from tasks.align.viterbi import Found
from tasks.align.words import letters, settled, split, spread
from tasks.audio import Samples
from tasks.models import Device, Report
from tasks.render import WORDS_SPREAD
from tasks.song import Word
from tasks.transcribe import Heard, Segment
from tasks.voice import Span

REACH = 0.5  # seconds that words may lie outside their segment: engines cut late and early
FASTEST = 0.03  # seconds for a letter; a segment that has less has no times worth the name
HELD = 1.0  # seconds that a word may sound on after its last letter, until the next one or the phrase's end
UNSURE = 0.5  # confidence where neither an engine nor a model says how sure it is
HEARING = 0.9  # share of the work that is the model's; the rest is the way through

TIMES_KEPT = "the words keep the times at which they were heard"


class NotAligned(Exception):
    """Why no model timed the words."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A segment's words, when they were heard, and where else they may lie."""

    segment: Segment
    texts: tuple[str, ...]
    span: Span
    reach: Span


def align(samples: Samples, heard: Heard, report: Report, device: Device = "best") -> tuple[Heard, tuple[str, ...]]:
    """The same words, each with times and a confidence, and what a user should know of them.

    Where no model can be had they are spread over their segment by their length, unless they have times already.
    """
    passages = _passages(heard, samples.duration)
    if not passages:
        return replace(heard, segments=()), ()
    phrases = voice.sung(samples)
    try:
        found = _found(samples, heard.language, passages, phrases, report, device)
        missing = "Not all words could be aligned"
    except (NotAligned, NotInstalled, WeightsAway) as why:
        found, missing = [None for _ in passages], str(why).rstrip(".")
    lost = [passage for passage, words in zip(passages, found, strict=True) if words is None]
    notes: tuple[str, ...] = ()
    if lost:
        notes = (f"{missing}; {TIMES_KEPT if all(p.segment.words for p in lost) else WORDS_SPREAD}.",)
        report(1.0, notes[0], step=True)
    if len(lost) == len(passages) and all(passage.segment.words for passage in passages):
        return heard, notes
    words = [own or otherwise for own, otherwise in zip(found, _otherwise(passages, phrases), strict=True)]
    return replace(heard, segments=_with(words, passages, samples.duration)), notes


# --- what is to be timed ----------------------------------------------------------------------


def _passages(heard: Heard, duration: float) -> list[Passage]:
    """The segments that hold words. Where they may lie rises from one to the next, as the words do."""
    texts = [tuple(w.text for w in s.words) or split(s.text, heard.language) for s in heard.segments]
    some = [(segment, words) for segment, words in zip(heard.segments, texts, strict=True) if words]
    spans = list(_spans(some, duration))
    starts = accumulate((max(span.start - REACH, 0.0) for span in spans), max)
    ends = accumulate((min(span.end + REACH, duration) for span in spans), max)
    reaches = map(Span, starts, ends)
    return [Passage(*each, span, reach) for each, span, reach in zip(some, spans, reaches, strict=True)]


def _spans(some: Sequence[tuple[Segment, tuple[str, ...]]], duration: float) -> Iterator[Span]:
    """The segments' own times; one whose times are of no use lies between its neighbours."""
    own = [Span(segment.start, min(segment.end, duration)) for segment, _ in some]
    usable = [
        0.0 <= span.start < span.end and span.length + 2 * REACH >= FASTEST * sum(map(len, words))
        for span, (_, words) in zip(own, some, strict=True)
    ]
    for place, span in enumerate(own):
        if usable[place]:
            yield span
            continue
        before = (other.end for other, use in zip(own[:place], usable[:place], strict=True) if use)
        after = (other.start for other, use in zip(own[place:], usable[place:], strict=True) if use)
        yield Span(max(before, default=0.0), next(after, duration))


# --- by a model -------------------------------------------------------------------------------


def _found(
    samples: Samples,
    language: str | None,
    passages: Sequence[Passage],
    phrases: Sequence[Span],
    report: Report,
    device: Device,
) -> list[list[Word] | None]:
    """The words of each passage; none where no way through is left for them."""
    folder = _folder(language, report)
    heard = _listened(samples, passages, folder, report, device)
    late = models.offset(str(folder.resolve()))

    def meanwhile() -> None:
        report(HEARING, "Finding the best way through the words")

    found: list[list[Word] | None] = []
    for group in _groups(passages):
        words = _placed(group, heard, meanwhile)
        if words is None:
            found += [None for _ in group]
            continue
        sung = iter(_held([word.moved(late) for word in words], phrases))
        found += [list(islice(sung, len(passage.texts))) for passage in group]
    return found


def _folder(language: str | None, report: Report) -> Path:
    if find_spec("whisperx") is None:
        raise NotInstalled(what="Alignment")
    if folder := models.aligner(language or "", report):
        return folder
    raise NotAligned(f'There is no alignment model for the language "{language or "unknown"}"')


def _listened(samples: Samples, passages: Sequence[Passage], folder: Path, report: Report, device: Device) -> Emission:
    on = models.torch_device(device)
    try:
        try:
            return _emission(samples, passages, folder, report, on)
        except NoRoom:
            if on == "cpu":
                raise
            models.release(emission.key(folder, on))
            report(0.0, "The GPU has no memory left: the words are timed on the CPU", step=True)
            return _emission(samples, passages, folder, report, "cpu")
    except (Broken, NoRoom):
        raise NotAligned(f"The alignment model {folder.name} failed") from None


def _emission(samples: Samples, passages: Sequence[Passage], folder: Path, report: Report, on: str) -> Emission:
    report(0.0, "Loading the alignment model")
    aligner = emission.load(folder, on)
    wanted = {letter for p in passages for text in p.texts for letter in letters(text, aligner.letters) if letter}

    def hearing(share: float, message: str, *, step: bool = False) -> None:
        report(HEARING * share, message, step=step)

    return emission.listen(aligner, samples, [passage.reach for passage in passages], sorted(wanted), hearing)


def _groups(passages: Sequence[Passage]) -> Iterator[list[Passage]]:
    """Passages that reach into each other: their words have to find their way together."""
    group: list[Passage] = []
    for passage in passages:
        if group and passage.reach.start >= group[-1].reach.end:
            yield group
            group = []
        group.append(passage)
    if group:
        yield group


def _placed(group: Sequence[Passage], heard: Emission, meanwhile: Callable[[], None]) -> list[Word] | None:
    """The group's words where they are sung: within their passages' reaches, or if need be only within the group's."""
    whole = Span(group[0].reach.start, group[-1].reach.end)
    spelt = [[heard.columns[letter] for letter in letters(t, heard.columns)] for p in group for t in p.texts]
    columns = np.array([column for word in spelt for column in word], np.intp)
    if not len(columns):
        return None
    begin, end = _frames(whole)
    logs = heard.logs[begin:end]
    own = [passage.reach for passage in group for _ in passage.texts]
    for reaches in (own, [whole for _ in own]):
        bounds = np.array([_frames(reach) for reach, word in zip(reaches, spelt, strict=True) for _ in word]) - begin
        if found := viterbi.align(logs, columns, bounds[:, 0], bounds[:, 1], meanwhile):
            return _words(group, [len(word) for word in spelt], found, begin)
    return None


def _words(group: Sequence[Passage], lengths: Sequence[int], found: Found, begin: int) -> list[Word]:
    """Each from its first letter to its last. One without letters, as a dash, stands where the one before it ends."""
    words: list[Word] = []
    first = 0
    before = float(found.begins[0] + begin) * FRAME
    for text, length in zip((text for p in group for text in p.texts), lengths, strict=True):
        own = slice(first, first + length)
        if length:
            start, end = ((int(found.begins[own][0]) + begin) * FRAME, (int(found.ends[own][-1]) + begin) * FRAME)
            words.append(Word(text, start, end, min(float(found.likelihoods[own].mean()), 1.0)))
            before = end
        else:
            words.append(Word(text, before, before, UNSURE))
        first += length
    return words


def _frames(span: Span) -> tuple[int, int]:
    return math.floor(span.start / FRAME), math.ceil(span.end / FRAME)


def _held(words: Sequence[Word], phrases: Sequence[Span]) -> list[Word]:
    """The words as long as they are sung: a model hears when a vowel begins, not how long it is held."""
    held: list[Word] = []
    for word, after in zip(words, [*words[1:], None], strict=True):
        phrase = next((p.end - voice.MARGIN for p in phrases if p.start <= word.end <= p.end), word.end)
        until = min(word.end + HELD, phrase, after.start if after else phrase)
        held.append(replace(word, end=max(word.end, until)))
    return held


# --- without one ------------------------------------------------------------------------------


def _otherwise(passages: Sequence[Passage], phrases: Sequence[Span]) -> Iterator[Sequence[Word]]:
    """The words of each passage at the engine's times, or spread over the singing of its span.

    Passages without times of their own, that lie between the same neighbours, share what is between them.
    """
    for span, some in groupby(passages, key=lambda passage: passage.span):
        sharing = list(some)
        times = iter(spread([text for p in sharing for text in p.texts], span.start, span.end, phrases))
        for passage in sharing:
            segment = passage.segment
            confidence = UNSURE if segment.avg_logprob is None else min(math.exp(segment.avg_logprob), 1.0)
            own = [Word(text, *time, confidence) for text, time in zip(passage.texts, times, strict=False)]
            yield segment.words or own


def _with(words: Sequence[Sequence[Word]], passages: Sequence[Passage], duration: float) -> tuple[Segment, ...]:
    """The segments with these words, whose times are in order throughout the song."""
    times = iter(settled([(word.start, word.end) for some in words for word in some], duration))
    segments: list[Segment] = []
    for passage, some in zip(passages, words, strict=True):
        timed = tuple(replace(word, start=start, end=end) for word, (start, end) in zip(some, times, strict=False))
        segments.append(replace(passage.segment, words=timed, start=timed[0].start, end=timed[-1].end))
    return tuple(segments)
