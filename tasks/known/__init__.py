"""Known lyrics: the user's words are timed instead of guessed.

What was heard says which song it is and about where each word is (`matching`); a small network says which letter is
sung when (`tasks/letters`), and the words lie where their letters do (`timing`). They are shown as given, line by line.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import compress, islice, starmap

from infra.errors import BadRequest, DiskFull, OtherLyrics, WeightsAway
from infra.jobs.request import Request
from tasks import singing, voice
from tasks.align.words import settled
from tasks.audio import Samples
from tasks.known import fit, timing
from tasks.known.language import language_of
from tasks.known.matching import Match, match
from tasks.known.sounds import sounds, spoken
from tasks.known.text import Given, Part, sung_lines
from tasks.letters import Floats, Placed, columns
from tasks.lines import UNSPACED
from tasks.models import Device, Report
from tasks.song import Audio, Line, Word
from tasks.voice import Span

__all__ = ["NOT_OURS", "Timed", "prepared", "timed"]

NOT_OURS = (OtherLyrics, BadRequest)  # lyrics of another song, or none

UNLIKELY = 0.12  # mean likelihood of a line's letters, under which a line that nobody heard is not sung
CRAMMED = 0.045  # seconds for a letter of it; less is a line for which there was no room
RELIED = 0.5  # share of the words that must have been heard before the others have to lie between them
ENOUGH = 0.5  # share of the words that are of letters the network knows
CREDIT = 0.2  # power that makes the likelihood of a word's letters that of the word: it is given, only its place is not
HEARING = 0.9  # share of the work that is the network's; the rest is the way through
SPREAD = "Words that were not heard share the time between those that were"


@dataclass(frozen=True, slots=True)
class Timed:
    lines: tuple[Line, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """The lines of the lyrics with their words, and what was heard of each word."""

    lines: tuple[Given, ...]
    parts: tuple[tuple[Part, ...], ...]
    matches: tuple[tuple[Match | None, ...], ...]

    @property
    def words(self) -> list[str]:
        return [part.text for parts in self.parts for part in parts]

    @property
    def begins(self) -> list[bool]:
        """Of each word, whether it is its line's first."""
        return [nth == 0 for parts in self.parts for nth in range(len(parts))]

    @property
    def found(self) -> list[Match | None]:
        return [match for matches in self.matches for match in matches]

    def only(self, kept: Sequence[bool]) -> Sheet:
        """These of its lines."""
        return Sheet(
            tuple(compress(self.lines, kept)), tuple(compress(self.parts, kept)), tuple(compress(self.matches, kept))
        )


def prepared(request: Request, audio: Audio) -> Request:
    """The request, whose lyrics can be sung; in their language, where it asks for none."""
    if request.lyrics:
        sung_lines(request.lyrics)
    lyrics = request.lyrics or audio.lyrics
    return request.but(language=language_of(lyrics)) if lyrics and not request.language else request


def timed(
    samples: Samples,
    spans: Sequence[Span],
    heard: Sequence[Word],
    language: str | None,
    lyrics: str,
    report: Report,
    device: Device = "best",
) -> Timed:
    """The lyrics' lines where they are sung; OtherLyrics if they are another song's."""
    lines = sung_lines(lyrics)
    if not spans:
        raise OtherLyrics(heard="nobody sings in it")
    sheet = _sheet(lines, heard, language, report)
    letters, notes = _letters(samples, sheet, language, report, device)
    place = partial(_placed, letters, spans=spans, duration=samples.duration, language=language, report=report)
    places = place(sheet)
    _check(sheet, places, language)
    sung = list(starmap(_is_sung, zip(sheet.parts, sheet.matches, _by_line(sheet, places), strict=True)))
    if not all(sung):
        notes = (*notes, *fit.unheard([line for line, is_sung in zip(sheet.lines, sung, strict=True) if not is_sung]))
        sheet = sheet.only(sung)
        places = place(sheet)
    shown = _lines(sheet, places, samples.duration, language)
    beside = [(given, line.start, line.end) for given, line in zip(sheet.lines, shown, strict=True)]
    return Timed(shown, (*notes, *fit.additions(heard, beside)))


# --- the words --------------------------------------------------------------------------------


def _sheet(lines: Sequence[Given], heard: Sequence[Word], language: str | None, report: Report) -> Sheet:
    parts = tuple(line.parts(language) for line in lines)
    meanwhile = partial(report, 0.0, "Comparing the lyrics with what was heard")
    found = iter(match([part.text for own in parts for part in own], heard, language, meanwhile))
    return Sheet(tuple(lines), parts, tuple(tuple(islice(found, len(own))) for own in parts))


def _check(sheet: Sheet, places: Sequence[Placed], language: str | None) -> None:
    """OtherLyrics where too few of the words are in the song; backing vocals may be missing."""
    parts = [part for own in sheet.parts for part in own]
    weights = [len(sounds(part.text, language)) for part in parts]
    lead = [0 if part.backing else weight for part, weight in zip(parts, weights, strict=True)]
    heard = [anchor is not None for anchor in timing.anchored(sheet.found)]
    clear = [place.likelihood >= fit.CLEAR for place in places]
    fit.check(heard, clear, lead if any(lead) else weights)


# --- their times ------------------------------------------------------------------------------


def _letters(
    samples: Samples, sheet: Sheet, language: str | None, report: Report, device: Device
) -> tuple[Floats | None, tuple[str, ...]]:
    """Which letter is sung when; None, and why, where the lyrics' letters are not ours or nobody can hear them."""
    known = sum(bool(columns(spoken(word, language))) for word in sheet.words)
    if known < ENOUGH * len(sheet.words):
        return None, (f"{SPREAD}.",)
    try:
        ear = singing.ears(report, device)
    except (WeightsAway, DiskFull) as error:
        report(0.0, str(error), step=True)
        return None, (f"{str(error).rstrip('.')}. {SPREAD}.",)
    # By loudness alone: a phrase that a finer ear missed would tear the song apart.
    return singing.listen(ear, samples, voice.sung(samples), report), ()


def _placed(
    letters: Floats | None,
    sheet: Sheet,
    *,
    spans: Sequence[Span],
    duration: float,
    language: str | None,
    report: Report,
) -> list[Placed]:
    """When each word is sung: where its letters are, or else between the words that were heard."""
    anchors = timing.anchored(sheet.found)
    if letters is not None:
        meanwhile = partial(report, HEARING, "Placing the words")
        # Where little was heard, that little may be the chorus in another place: the letters know better.
        sure = anchors if sum(map(bool, anchors)) >= RELIED * len(anchors) else [None for _ in anchors]
        if places := timing.placed(letters, sheet.words, sheet.begins, sure, language, meanwhile):
            return places
    return timing.between(sheet.words, anchors, spans, duration)


def _is_sung(parts: Sequence[Part], matches: Sequence[Match | None], places: Sequence[Placed]) -> bool:
    """Not a line that nobody heard, and whose letters are not in the sound either or have no room there."""
    likely = sum(place.likelihood for place in places) / len(places)
    pace = statistics.median(
        (place.end - place.start) / max(len(part.text), 1) for part, place in zip(parts, places, strict=True)
    )
    return any(fit.is_heard(match) for match in matches) or (likely >= UNLIKELY and pace >= CRAMMED)


def _by_line(sheet: Sheet, places: Sequence[Placed]) -> Iterator[list[Placed]]:
    every = iter(places)
    for parts in sheet.parts:
        yield list(islice(every, len(parts)))


def _lines(sheet: Sheet, places: Sequence[Placed], duration: float, language: str | None) -> tuple[Line, ...]:
    """The lines as they were given, their words in order."""
    times = settled([(place.start, place.end) for place in places], duration)
    words = iter(
        Word(text, start, end, place.likelihood**CREDIT)
        for text, place, (start, end) in zip(sheet.words, places, times, strict=True)
    )
    joiner = "" if language in UNSPACED else " "
    return tuple(Line(tuple(islice(words, len(parts))), joiner) for parts in sheet.parts)
