"""A file's sound as samples: any container and codec that FFmpeg knows, through PyAV, without a binary."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from infra.errors import BrokenAudio, MissingFile, NoSound, NotAudio, TooLong, TooShort

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.resampler import AudioResampler
    from av.audio.stream import AudioStream
    from av.container import InputContainer

RATE = 16_000  # samples a second, what whisper and Silero hear
SHORTEST = 0.5  # seconds; less cannot hold a word
SLACK = 1.0  # seconds over the limit that are forgiven: codecs pad, sites round
GAP = 0.1  # seconds; a jump in a stream's clock that is more than rounding

# A playlist (HLS, DASH, concat) is "a file" to FFmpeg too, and would make it open other files and addresses of the
# writer's choice. No protocol is allowed; the file itself needs none, for it is handed over already open.
NO_PROTOCOLS = {"protocol_whitelist": "none"}


Chunk = NDArray[np.float32]  # a piece of sound: (channel, sample), within ±1


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    values: NDArray[np.float32]  # mono, at RATE, within ±1

    @property
    def duration(self) -> float:
        return len(self.values) / RATE

    def between(self, start: float, end: float) -> NDArray[np.float32]:
        return self.values[round(start * RATE) : round(end * RATE)]


@dataclass(frozen=True, slots=True)
class Track:
    """A file's sound as its header tells of it."""

    duration: float | None  # seconds; not every format says
    codec: str
    rate: int
    channels: int


def probe(path: Path, *, name: str | None = None) -> Track:
    with _opened(path, name or shown(path)) as (container, stream):
        return _track(container, stream)


def decode(path: Path, *, max_seconds: float, name: str | None = None) -> Samples:
    """The file's sound, at its place in time: what is missing or broken in the middle becomes silence."""
    sound = bytearray()  # grows where it stands: two hours need no second room for a moment
    for chunk in stream(path, max_seconds=max_seconds, name=name):
        sound += chunk.tobytes()
    return Samples(np.frombuffer(sound, np.float32))


def stream(
    path: Path, *, rate: int = RATE, channels: int = 1, max_seconds: float, name: str | None = None
) -> Iterator[Chunk]:
    """The same sound piece by piece, at any rate, in one channel or two."""
    name = name or shown(path)
    with _opened(path, name) as (container, best):
        claimed = _track(container, best).duration
        _check_length(claimed or 0.0, max_seconds)
        length, broken = 0, 0
        for chunk in _chunks(container, best, claimed, rate, channels):
            if chunk is None:
                broken += 1
                continue
            length += chunk.shape[1]
            _check_length(length / rate, max_seconds)
            # Files of floats may hold anything.
            yield np.nan_to_num(chunk, nan=0.0, posinf=1.0, neginf=-1.0).clip(-1.0, 1.0).astype(np.float32, copy=False)
    if length < SHORTEST * rate:
        if broken or (claimed or 0.0) >= SHORTEST:
            raise BrokenAudio(name=name)
        raise TooShort(name=name, seconds=length / rate)


def shown(path: Path) -> str:
    """A file's name as it can be shown: without its folder, and text even where the name is not."""
    return os.fsencode(path.name or path).decode(errors="replace")


def clock(seconds: float) -> str:
    """61.4 → 1:01"""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _check_length(seconds: float, limit: float) -> None:
    if seconds > limit + SLACK:
        raise TooLong(length=clock(seconds), limit=clock(limit))


class _Bytes:
    """A file without its name, which FFmpeg would take for a hint, and whose impossible seeks fail without a noise."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read
        self.tell = file.tell
        self._seek = file.seek

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError):
            return -1


def _file(path: Path, name: str) -> BinaryIO:
    try:
        if path.exists() and not path.is_file():  # a folder; a pipe, which might never end
            raise NotAudio(name=name)
        return path.open("rb")
    except PermissionError:
        raise NotAudio(name=name) from None
    except (OSError, ValueError):  # also names that no file can have
        raise MissingFile(name=name) from None


@contextmanager
def _opened(path: Path, name: str) -> Generator[tuple[InputContainer, AudioStream]]:
    """The container and its best sound. FFmpeg gets an open file, never a name that it could take for an address."""
    import av
    from av.error import FFmpegError

    with _file(path, name) as file:
        try:
            container = av.open(_Bytes(file), "r", options=NO_PROTOCOLS, metadata_errors="replace")
        except (FFmpegError, OSError, ValueError):
            raise NotAudio(name=name) from None
        with container:
            if not container.streams.audio:
                raise NoSound(name=name) if container.streams.video else NotAudio(name=name)
            yield container, container.streams.audio[0]


def _track(container: InputContainer, stream: AudioStream) -> Track:
    import av

    duration = None
    if stream.duration is not None and stream.time_base is not None:
        duration = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        duration = container.duration / av.time_base
    return Track(duration, stream.codec_context.name, stream.rate, stream.channels)


def _chunks(
    container: InputContainer, stream: AudioStream, claimed: float | None, rate: int, channels: int
) -> Iterator[Chunk | None]:
    """Samples, piece by piece; None for a piece that could not be decoded."""
    import av

    origin = (container.start_time or 0) / av.time_base
    resampler, written = None, 0
    for frame in _frames(container, stream):
        if frame is None:
            yield None
            continue
        gap = _gap(frame, origin + written / rate, origin + (claimed or 0.0), rate)
        written += gap
        for begin in range(0, gap, rate):  # never an hour of it at once
            yield np.zeros((channels, min(rate, gap - begin)), np.float32)
        resampler = resampler or _resampler(frame, rate, channels)
        try:
            resampled = resampler.resample(frame)
        except ValueError:  # the stream changed its rate or its channels
            resampler = _resampler(frame, rate, channels)
            resampled = resampler.resample(frame)
        for piece in resampled:
            samples = np.asarray(piece.to_ndarray(), np.float32)
            written += samples.shape[1]
            yield np.broadcast_to(samples, (channels, samples.shape[1]))


def _frames(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame | None]:
    """Every frame that decodes; None in the place of a packet that does not."""
    from av.error import FFmpegError

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except FFmpegError:  # the file ends here, whatever its header promised
            yield None
            return
        try:
            yield from packet.decode()
        except FFmpegError:
            yield None


def _gap(frame: AudioFrame, now: float, end: float, rate: int) -> int:
    """How many samples of silence belong before the frame. A clock that leaves the file is not believed."""
    if frame.time is None or frame.time > end or frame.time - now < GAP:
        return 0
    return round((frame.time - now) * rate)


def _resampler(frame: AudioFrame, rate: int, channels: int) -> AudioResampler:
    from av.audio.resampler import AudioResampler

    # FFmpeg would play one channel on two by 3 dB quieter.
    layout = "mono" if channels == 1 or frame.layout.nb_channels == 1 else "stereo"
    # Without a bound the channels are summed up and loud songs leave ±1.
    return AudioResampler(format="fltp", layout=layout, rate=rate, options={"rematrix_maxval": "1.0"})
