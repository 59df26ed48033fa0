"""Any file that FFmpeg knows becomes samples; any other becomes one sentence."""

from __future__ import annotations

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest

from infra.errors import BrokenAudio, MissingFile, NoSound, NotAudio, TooLong, TooShort, UserError
from tasks.audio import RATE, clock, decode, probe, stream

LIMIT = 900.0  # seconds


def write(
    path: Path, seconds: float, *, codec: str, rate: int = 16_000, layout: str = "mono", hertz: float = 220.0
) -> Path:
    """A tone in any codec. The container is made elsewhere, for some names mean something to FFmpeg."""
    made = path.with_name(f"made{path.suffix}")
    with av.open(made, "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        channels = av.AudioLayout(layout).nb_channels
        for begin in range(0, round(seconds * rate), 10 * rate):
            at = np.arange(begin, min(begin + 10 * rate, round(seconds * rate))) / rate
            tone = (0.3 * 32767 * np.sin(2 * np.pi * hertz * at)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(np.repeat(tone, channels)[None, :], format="s16", layout=layout)
            frame.sample_rate, frame.pts = rate, begin
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return made.rename(path)


def refused(path: Path, error: type[UserError]) -> str:
    with pytest.raises(error) as caught:
        decode(path, max_seconds=LIMIT)
    return str(caught.value)


@pytest.mark.parametrize(
    ("suffix", "codec", "rate", "layout"),
    [
        ("wav", "pcm_s16le", 8_000, "mono"),
        ("wav", "pcm_f32le", 44_100, "stereo"),
        ("flac", "flac", 192_000, "stereo"),
        ("m4a", "aac", 48_000, "5.1"),
        ("m4a", "alac", 44_100, "stereo"),
        ("mp3", "libmp3lame", 44_100, "stereo"),
        ("webm", "libopus", 48_000, "stereo"),
        ("ogg", "libopus", 48_000, "mono"),
        ("mka", "aac", 22_050, "mono"),
        ("ts", "aac", 44_100, "stereo"),
    ],
)
def test_every_codec_rate_and_layout_becomes_the_same_samples(
    tmp_path: Path, suffix: str, codec: str, rate: int, layout: str
) -> None:
    path = write(tmp_path / f"tone.{suffix}", 2.0, codec=codec, rate=rate, layout=layout)
    samples = decode(path, max_seconds=LIMIT)
    assert samples.values.dtype == np.float32
    assert samples.values.ndim == 1
    assert samples.duration == pytest.approx(2.0, abs=0.1)
    middle = samples.between(0.5, 1.5)
    assert np.abs(middle).max() == pytest.approx(0.3, abs=0.03)
    assert np.argmax(np.abs(np.fft.rfft(middle))) == pytest.approx(220, abs=2)
    track = probe(path)
    assert (track.rate, track.duration) == (rate, pytest.approx(2.0, abs=0.1))


@pytest.mark.parametrize(
    "name",
    [
        "concat:x.mp3",
        "http:..",
        "file:x|y.mp3",
        "-i.mp3",
        "Björk – 夜に駆ける 🎤 .mp3",
        "100%d {name}.mp3",
        "x" * 251 + ".mp3",
        os.fsdecode(b"\xff\xfe.mp3"),
    ],
)
def test_no_name_is_taken_for_an_option_or_an_address(tmp_path: Path, name: str) -> None:
    write(tmp_path / "tone.mp3", 1.0, codec="libmp3lame").rename(tmp_path / name)
    assert decode(tmp_path / name, max_seconds=LIMIT).duration == pytest.approx(1.0, abs=0.1)


def test_a_missing_file_is_told_without_its_folder(tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere {x}.mp3", MissingFile) == "There is no file nowhere {x}.mp3."
    refused(tmp_path / ("y" * 300), MissingFile)
    refused(tmp_path / "a\0b", MissingFile)


def test_a_folder_and_a_pipe_are_not_audio(tmp_path: Path) -> None:
    refused(tmp_path, NotAudio)
    os.mkfifo(tmp_path / "pipe.mp3")
    refused(tmp_path / "pipe.mp3", NotAudio)


@pytest.mark.parametrize("name", ["song.mp3", "song.m4a", "song.wav", "song.opus"])
def test_an_empty_file_and_random_bytes_are_not_audio(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"")
    assert refused(path, NotAudio) == f"{name} is not an audio or video file that can be read."
    path.write_bytes(np.random.default_rng(1).bytes(100_000))
    refused(path, NotAudio)
    path.write_text("1\n00:00:01,000 --> 00:00:02,000\nsubtitles are not sound\n")
    refused(path, NotAudio)


def test_a_display_name_stands_in_for_a_temporary_path(tmp_path: Path) -> None:
    (tmp_path / "tmp8f3a").write_bytes(b"")
    with pytest.raises(NotAudio, match=r"^My Song is not"):
        decode(tmp_path / "tmp8f3a", max_seconds=LIMIT, name="My Song")


def test_a_video_without_sound_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "silent film.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        container.mux(stream.encode(None))
    assert refused(path, NoSound) == "silent film.mp4 has no sound track."


def test_a_fifth_of_a_second_is_too_short(tmp_path: Path) -> None:
    sentence = refused(write(tmp_path / "blip.wav", 0.2, codec="pcm_s16le"), TooShort)
    assert sentence == "blip.wav is only 0.2 s long: too short to hold a song."


def test_two_hours_are_refused_by_their_header(tmp_path: Path) -> None:
    path = write(tmp_path / "long.flac", 7200, codec="flac", rate=8_000, hertz=0)
    assert refused(path, TooLong) == "This is 2:00:00 long; the limit here is 15:00."


def test_a_header_that_lies_is_found_out_while_decoding(tmp_path: Path) -> None:
    path = write(tmp_path / "tone.flac", 8.0, codec="flac")
    content = bytearray(path.read_bytes())
    content[22:26] = RATE.to_bytes(4, "big")  # STREAMINFO's number of samples: one second
    path.write_bytes(content)
    assert probe(path).duration == pytest.approx(1.0)
    with pytest.raises(TooLong, match=r"limit here is 0:03\."):
        decode(path, max_seconds=3.0)
    assert decode(path, max_seconds=LIMIT).duration == pytest.approx(8.0, abs=0.1)


def test_a_second_over_the_limit_is_forgiven(tmp_path: Path) -> None:
    path = write(tmp_path / "tone.wav", 3.5, codec="pcm_s16le")
    assert decode(path, max_seconds=3.0).duration == pytest.approx(3.5, abs=0.1)


@pytest.mark.parametrize(("suffix", "codec"), [("flac", "flac"), ("ts", "aac"), ("m4a", "aac")])
def test_what_is_broken_in_the_middle_keeps_the_rest_at_its_place(tmp_path: Path, suffix: str, codec: str) -> None:
    path = write(tmp_path / f"tone.{suffix}", 6.0, codec=codec, rate=44_100)
    content = bytearray(path.read_bytes())
    third = len(content) // 3
    content[third : third + len(content) // 6] = np.random.default_rng(1).bytes(len(content) // 6)
    path.write_bytes(content)
    samples = decode(path, max_seconds=LIMIT)
    assert samples.duration == pytest.approx(6.0, abs=0.3)
    assert np.abs(samples.values).max() <= 1.0


@pytest.mark.parametrize(("suffix", "codec"), [("mp3", "libmp3lame"), ("flac", "flac"), ("ogg", "libopus")])
def test_a_download_that_stopped_halfway_keeps_its_half(tmp_path: Path, suffix: str, codec: str) -> None:
    path = write(tmp_path / f"tone.{suffix}", 6.0, codec=codec, rate=48_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 1.0 < decode(path, max_seconds=LIMIT).duration < 5.0


def test_a_file_with_nothing_behind_its_header_is_broken(tmp_path: Path) -> None:
    path = write(tmp_path / "tone.flac", 3.0, codec="flac", rate=44_100)
    content = path.read_bytes()
    path.write_bytes(content[:9000] + bytes(len(content) - 9000))
    assert refused(path, BrokenAudio).startswith("tone.flac is broken")


def test_sound_without_numbers_becomes_silence(tmp_path: Path) -> None:
    path = write(tmp_path / "tone.wav", 1.0, codec="pcm_f32le")
    content = bytearray(path.read_bytes())
    content[-32000:] = np.full(8000, np.nan, np.float32).tobytes()
    path.write_bytes(content)
    assert np.isfinite(decode(path, max_seconds=LIMIT).values).all()


def test_a_playlist_opens_no_other_file_and_no_address(tmp_path: Path) -> None:
    asked: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None: ...

    secret = write(tmp_path / "secret.ts", 2.0, codec="aac")
    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        for target in (f"http://127.0.0.1:{server.server_port}/a.ts", str(secret), f"file:{secret}", secret.name):
            for text in (
                f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n",
                f"ffconcat version 1.0\nfile '{target}'\n",
            ):
                (tmp_path / "list.m3u8").write_text(text)
                with pytest.raises(UserError):
                    decode(tmp_path / "list.m3u8", max_seconds=LIMIT)
        server.shutdown()
        thread.join()
    assert asked == []


def test_a_sound_streams_in_two_channels_at_any_rate(tmp_path: Path) -> None:
    at = np.arange(2 * 44_100) / 44_100
    left, right = 0.3 * np.sin(2 * np.pi * 220 * at), 0.1 * np.sin(2 * np.pi * 440 * at)
    with av.open(tmp_path / "two.wav", "w") as container:
        track = container.add_stream("pcm_f32le", rate=44_100, layout="stereo")
        both = np.stack([left, right], axis=1).reshape(1, -1).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(both, format="flt", layout="stereo")
        frame.sample_rate = 44_100
        container.mux([*track.encode(frame), *track.encode(None)])
    for rate in (22_050, 44_100, 48_000):
        pieces = list(stream(tmp_path / "two.wav", rate=rate, channels=2, max_seconds=LIMIT))
        sound = np.concatenate(pieces, axis=1)
        assert sound.dtype == np.float32
        assert sound.shape == (2, pytest.approx(2 * rate, abs=100))
        assert np.abs(sound[:, rate // 2 : -rate // 2]).max(1) == pytest.approx([0.3, 0.1], abs=0.005)
    pieces = list(stream(tmp_path / "two.wav", max_seconds=LIMIT))
    assert np.array_equal(np.concatenate(pieces, axis=1)[0], decode(tmp_path / "two.wav", max_seconds=LIMIT).values)


def test_one_channel_is_as_loud_on_two(tmp_path: Path) -> None:
    path = write(tmp_path / "tone.wav", 1.0, codec="pcm_s16le", rate=44_100)
    left, right = np.concatenate(list(stream(path, rate=44_100, channels=2, max_seconds=LIMIT)), axis=1)
    assert np.abs(left).max() == pytest.approx(0.3, abs=0.001)
    assert np.array_equal(left, right)


def test_a_hole_in_a_file_is_as_much_silence_but_never_at_once(tmp_path: Path) -> None:
    tone = (0.3 * 32767 * np.sin(2 * np.pi * 220 * np.arange(RATE) / RATE)).astype(np.int16)
    with av.open(tmp_path / "hole.mka", "w") as container:
        track = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for second in (0, 40):
            frame = av.AudioFrame.from_ndarray(tone[None, :], format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE, second * RATE
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    pieces = list(stream(tmp_path / "hole.mka", max_seconds=LIMIT))
    assert max(piece.shape[1] for piece in pieces) <= RATE
    sound = np.concatenate(pieces, axis=1)[0]
    assert len(sound) == pytest.approx(41 * RATE, abs=RATE // 10)
    assert np.abs(sound[2 * RATE : 39 * RATE]).max() == 0.0
    assert np.abs(sound[-RATE // 2 :]).max() == pytest.approx(0.3, abs=0.01)


def test_a_clock_reads_like_a_players() -> None:
    assert [clock(s) for s in (0, 61.4, 599.9, 3600)] == ["0:00", "1:01", "9:59", "1:00:00"]
    assert RATE == 16_000
