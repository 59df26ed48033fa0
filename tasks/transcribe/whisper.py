"""faster-whisper's models on this machine: a song piece by piece, several at a time.

Each core of a CPU has a worker of its own: a second thread helps a worker little.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# (faster-whisper is typed in part)

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from infra.errors import BadRequest, UnknownLanguage
from infra.jobs.request import Request
from tasks import letters, models, voice
from tasks.audio import RATE, Samples, clock
from tasks.lines import UNSPACED
from tasks.models import Device, Report
from tasks.song import Word
from tasks.transcribe import Heard, Segment
from tasks.transcribe.belief import FAINT, LOOPING, believed, spoken, voiced
from tasks.transcribe.ear import Ear, Sung
from tasks.transcribe.reel import reels
from tasks.transcribe.sounding import Sounding, heard_in
from tasks.voice import Span

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

CUT = 25.0  # seconds; the length of pieces that are cut from a longer window
BEYOND = 2.0  # seconds that such a piece hears beyond its cuts, so that no word is heard in halves
WORKERS = 8  # at most; few songs have more pieces
BATCH = 16  # pieces at a time on a GPU; on a CPU a batch is no quicker than its pieces one by one
SHOWN = 120  # characters of CTranslate2's reasons
TICK = 1.0  # seconds between two pieces of news, and so until a cancel is heard

WHOLE = 30  # seconds that whisper hears at a time
EXCERPT = 15.0  # seconds of clear voice asked for the language
CLEAR = 10.0  # seconds of heard voice in which the language is clear
AROUND = 0.5  # seconds kept around a heard voice
VOTES = 4  # windows asked for the language where little of the voice is heard
CERTAIN = 0.5  # mean likelihood of a language; most songs at 0 dB reach it, most instrumentals do not
# Languages that whisper learned from a thousand hours and more. What it takes for Latin, Welsh or Hawaiian is mostly
# one of these, sung.
COMMON = (
    "ar bg ca cs da de el en es fi fr he hi hr hu id it ja ko lt ms nl no pl pt ro ru sv ta th tr uk ur vi zh"  # ISO
)
RARELY = 0.1
VOICED = 0.1  # share of the sound in which letters are heard; the same
VOICELESS = 0.3  # seconds of voice, under which a piece is not worth hearing

SPARSE = 0.7  # words for each second of voice; where fewer are heard, some are missing
MORE = 1.15  # times as many words, for which a second hearing is believed
SPLIT = 8.0  # seconds, from which a piece that whisper fails at twice is heard in halves …
LEAST = 2.0  # … that have so many at least
FASTEST = 6.0  # words for each second of voice, that no rapper sings

PIECES = 2.0  # that a word is heard in where none are parted by spaces

PAUSE = 0.3  # seconds between two words that ends a segment
SIGNS = " ♪♫"  # around a word

ISO_TO_WHISPER = {"jv": "jw", "nb": "no", "fil": "tl"}
WHISPER_TO_ISO = {"jw": "jv"}

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class FasterWhisper:
    model: str
    folder: Path
    device: Device = "best"

    @property
    def name(self) -> str:
        return f"faster-whisper {Path(self.model).name}"

    def warm(self) -> None:
        with suppress(RuntimeError):  # a GPU that cannot be used: the song will say so
            self._loaded()
        voice.speech(Samples(np.zeros(voice.SPEECH_FRAME, np.float32)))

    def ear(self) -> Ear:
        """The model for whoever wants to hear something else than words with it."""
        return Ear(self._loaded())

    def listen(
        self,
        samples: Samples,
        windows: Sequence[Span],
        *,
        language: str | None,
        prompt: str | None = None,
        report: Report,
    ) -> Heard:
        try:
            return self._heard(samples, windows, language, prompt, report)
        except RuntimeError as error:  # CTranslate2's, of memory and of all that CUDA may lack
            if self._on == "cpu":
                raise
            reason = str(error).splitlines()[0][:SHOWN]
        models.release()
        report(0.0, f"Whisper cannot use the GPU ({reason}); it goes on on the CPU", step=True)
        return replace(self, device="cpu").listen(samples, windows, language=language, prompt=prompt, report=report)

    def _heard(
        self, samples: Samples, windows: Sequence[Span], language: str | None, prompt: str | None, report: Report
    ) -> Heard:
        report(0.0, f"Loading the model {Path(self.model).name}")
        whisper = self._loaded()
        language = _known(language, whisper, self.model)
        speech = voice.speech(samples, windows, partial(report, 0.0, "Listening for singing"))
        clearly = spoken(speech, windows)
        if len(whisper.supported_languages) > 1 and not (language and clearly):
            guess = _language(Ear(whisper), samples, windows, speech, by_letters=self._has_letters)
            if not clearly and not guess.sings:
                return Heard((), None)
            language = language or guess.language
        language = language or "en"
        sung = self._segments(Ear(whisper, language, prompt), samples, windows, speech, report)
        return Heard(sung, WHISPER_TO_ISO.get(language, language) if sung else None)

    def _segments(
        self, ear: Ear, samples: Samples, windows: Sequence[Span], speech: NDArray[np.float32], report: Report
    ) -> tuple[Segment, ...]:
        """What is heard in the windows and believed, in the order of the song."""
        pieces = list(_pieces(samples, windows))
        size = BATCH if self._on == "cuda" else 1
        batches = [pieces[i : i + size] for i in range(0, len(pieces), size)]
        total = sum(piece.own.length for piece in pieces)
        offset = models.offset(self.model)
        loud = () if self._has_letters else voice.sounding(samples)
        pieces_a_word = PIECES if ear.language in UNSPACED else 1.0

        def sounding(piece: Piece, sung: Sung) -> Sounding:
            if self._has_letters:
                return heard_in(sung.features, piece.heard)
            return Sounding(piece.heard, loud)

        def hear(batch: Sequence[Piece]) -> list[Segment]:
            sounds = [samples.between(piece.heard.start, piece.heard.end) for piece in batch]
            found: list[Segment] = []
            for piece, sound, sung in zip(batch, sounds, ear.sung(sounds), strict=True):
                own = sounding(piece, sung)
                if own.seconds < VOICELESS:
                    continue
                best = _better(sung, partial(ear.again, sound), own.seconds * pieces_a_word)
                if (best.text.failed or not best.words) and piece.heard.length >= SPLIT:
                    for half in _halves(piece, own.spans):
                        found += hear([half])
                    continue
                for segment in _spoken_in(best, own.timed(piece.words(best, offset))):
                    there = Span(segment.start, segment.end)
                    if believed(segment, own.within(there) if self._has_letters else voiced(speech, there)):
                        found.append(segment)
            return found

        def say(done: Sequence[Sequence[Piece]]) -> None:
            share = sum(piece.own.length for batch in done for piece in batch) / total
            report(share, f"Listening: {clock(share * samples.duration)} of {clock(samples.duration)}")

        return tuple(segment for found in _in_threads(hear, batches, self._workers, say) for segment in found)

    @property
    def _has_letters(self) -> bool:
        return Path(self.model).name == letters.MODEL

    def _loaded(self) -> WhisperModel:
        """The model, kept for later songs of this process."""
        return models.hold(("whisper", self.folder, self._on), self._load)

    def _load(self) -> WhisperModel:
        from faster_whisper import WhisperModel

        return WhisperModel(
            str(self.folder),
            device=self._on,
            compute_type="float16" if self._on == "cuda" else "int8",
            num_workers=self._workers,
            cpu_threads=max(models.threads() // self._workers, 1),
        )

    @property
    def _on(self) -> str:
        return models.device(self.device)

    @property
    def _workers(self) -> int:
        return 1 if self._on == "cuda" else min(models.threads(), WORKERS)


def ready(request: Request, report: Report, device: Device = "best") -> FasterWhisper:
    return FasterWhisper(*models.chosen(request, report, device), device)


# --- the language -----------------------------------------------------------------------------


def _known(language: str | None, whisper: WhisperModel, model: str) -> str | None:
    """The language as whisper calls it; none where none is asked for."""
    if language is None:
        return None
    code = ISO_TO_WHISPER.get(language, language)
    if code in whisper.supported_languages:
        return code
    if whisper.supported_languages == ["en"]:
        raise BadRequest(what=f'The model {Path(model).name} knows English only, not "{language}".')
    raise UnknownLanguage(language=language)


@dataclass(frozen=True, slots=True)
class Guess:
    language: str
    likelihood: float
    voice: float  # share of the sound, as far as letters tell

    @property
    def sings(self) -> bool:
        return self.likelihood >= CERTAIN or self.voice >= VOICED


def _language(
    ear: Ear, samples: Samples, windows: Sequence[Span], speech: NDArray[np.float32], *, by_letters: bool
) -> Guess:
    """The language of the singing: of the voice that is clearly heard, or by vote of the windows."""
    heard = _voiced(samples, speech)
    longest = sorted(windows, key=lambda window: window.length, reverse=True)[:VOTES]
    clear = len(heard) >= CLEAR * RATE
    parts = [heard[: round(EXCERPT * RATE)]] if clear else [samples.between(w.start, w.end) for w in longest]
    total = sum(map(len, parts))
    likelihoods: dict[str, float] = {}
    voice = 0.0
    for part in (part[: WHOLE * RATE] for part in parts):
        languages, features = ear.languages(part, clear=clear)
        for language, likelihood in languages.items():
            likelihoods[language] = likelihoods.get(language, 0.0) + likelihood * len(part) / total
        if by_letters:
            voice += heard_in(features, Span(0.0, len(part) / RATE)).seconds * RATE / total
    best = max(
        likelihoods, key=lambda language: likelihoods[language] * (1.0 if language in COMMON.split() else RARELY)
    )
    return Guess(best, likelihoods[best], voice)


def _voiced(samples: Samples, speech: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sound where a voice is heard, put together."""
    around = round(AROUND * RATE / voice.SPEECH_FRAME)
    near = np.convolve(speech > FAINT, np.ones(2 * around + 1), mode="same") > 0
    return samples.values[np.repeat(near, voice.SPEECH_FRAME)[: len(samples.values)]]


# --- pieces -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the song that is heard in one go, and the part of it whose words count."""

    heard: Span
    own: Span

    def words(self, sung: Sung, offset: float) -> list[Word]:
        """The words that count, in the song's time; signs alone are none."""
        moved = [word.moved(self.heard.start + offset) for word in sung.words if any(map(str.isalnum, word.text))]
        return [word for word in moved if self._owns((word.start + word.end) / 2 - offset)]

    def _owns(self, time: float) -> bool:
        before, after = self.own.start == self.heard.start, self.own.end == self.heard.end
        return (before or self.own.start <= time) and (after or time < self.own.end)


def _pieces(samples: Samples, windows: Sequence[Span]) -> Iterator[Piece]:
    """The windows; those that whisper cannot hear in one go are cut where it is quietest."""
    for window in windows:
        if window.length <= voice.WINDOW:
            yield Piece(window, window)
            continue
        for own in (span for reel in reels(samples, [window], CUT) for span in reel.spans):
            yield Piece(Span(max(own.start - BEYOND, window.start), min(own.end + BEYOND, window.end)), own)


def _halves(piece: Piece, spans: Sequence[Span]) -> tuple[Piece, Piece]:
    """A piece in two, cut at the pause that is nearest to its middle."""
    heard, own = piece.heard, piece.own
    middle = (own.start + own.end) / 2
    pauses = [(a.end + b.start) / 2 for a, b in pairwise(spans)]
    inner = [pause for pause in pauses if own.start + LEAST < pause < own.end - LEAST]
    cut = min(inner, key=lambda pause: abs(pause - middle), default=middle)
    return Piece(Span(heard.start, cut), Span(own.start, cut)), Piece(Span(cut, heard.end), Span(cut, own.end))


def _better(first: Sung, again: Callable[[], Sung], voiced: float) -> Sung:
    """What was heard; where that cannot be all, or right, what is heard the second time, if that is better."""
    if not first.text.failed and _plausible(first, voiced) and len(first.words) >= SPARSE * voiced:
        return first
    second = again()
    both = [sung for sung in (first, second) if _plausible(sung, voiced)]
    if len(both) < 2:
        return both[0] if both else replace(first, words=())
    if first.text.failed or second.text.failed:
        return max(both, key=lambda sung: (not sung.text.failed, sung.text.avg_logprob))
    return second if len(second.words) > MORE * len(first.words) else first


def _plausible(sung: Sung, voiced: float) -> bool:
    """Whether a mouth can sing it in that time, and it is no loop."""
    return len(sung.words) <= FASTEST * max(voiced, 1.0) and sung.text.compression_ratio <= LOOPING


def _spoken_in(sung: Sung, words: Sequence[Word]) -> list[Segment]:
    """The words as segments, which end where the voice pauses."""
    breaks = [i for i, (a, b) in enumerate(pairwise(words), start=1) if b.start - a.end > PAUSE]
    edges = [0, *breaks, len(words)]
    return [_segment(sung, words[begin:end]) for begin, end in pairwise(edges) if begin < end]


def _segment(sung: Sung, words: Sequence[Word]) -> Segment:
    return Segment(
        "".join(word.text for word in words).strip(),
        words[0].start,
        words[-1].end,
        tuple(replace(word, text=word.text.strip(SIGNS)) for word in words),
        sung.text.avg_logprob,
        sung.text.no_speech_prob,
        sung.text.compression_ratio,
    )


def _in_threads(work: Callable[[T], R], todo: Sequence[T], threads: int, say: Callable[[Sequence[T]], None]) -> list[R]:
    """The results, in order. What `say` raises (a cancel) ends the work after what is under way."""
    say(())
    pool = ThreadPoolExecutor(threads, "whisper")
    try:
        jobs = [pool.submit(work, item) for item in todo]
        waiting = set(jobs)
        while waiting:
            finished, waiting = wait(waiting, TICK, FIRST_COMPLETED)
            for job in finished:
                job.result()  # an error ends the work at once
            say([item for item, job in zip(todo, jobs, strict=True) if job not in waiting])
    finally:
        pool.shutdown(cancel_futures=True)
    return [job.result() for job in jobs]
