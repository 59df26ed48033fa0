"""A song becomes its voice and its music, as two files; or one sentence says why not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra gpu is not installed")
pytest.importorskip("demucs", reason="the extra gpu is not installed")

from demucs.htdemucs import HTDemucs  # noqa: E402

from infra import settings as configured  # noqa: E402
from infra.errors import BrokenAudio, NoSound, NotInstalled, NotSeparated, TooShort, UserError  # noqa: E402
from infra.jobs.request import Preset, Request  # noqa: E402
from tasks import models, separate  # noqa: E402
from tasks.audio import stream  # noqa: E402
from tasks.separate import Stems, ladder, wanted  # noqa: E402
from tasks.song import Audio  # noqa: E402
from tests.running import DEMO, ROOT  # noqa: E402
from tests.unit.test_audio import write  # noqa: E402

CHECKPOINTS = ROOT / "tests" / "checkpoints"
RATE = 22_050  # the small model's
LIMIT = 900.0  # seconds


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> Generator[pytest.MonkeyPatch]:
    """The small model, in the format that can be compared."""
    monkeypatch.setenv("DEMUCS_REPO", str(CHECKPOINTS))
    monkeypatch.setenv("DEMUCS_MODEL", "tinydemucs")
    monkeypatch.setenv("DEMUCS_PRECISION", "float32")
    monkeypatch.setenv("CPU_SEPARATION_MINUTES", "10")
    configured.settings.cache_clear()
    yield monkeypatch
    configured.settings.cache_clear()


@pytest.fixture(scope="module", autouse=True)
def loaded() -> Iterator[None]:
    yield
    models.release()


class Heard:
    """A report, and what it was told."""

    def __init__(self, cancel_at: float = 2.0) -> None:
        self.messages: list[tuple[float, str]] = []
        self.steps: list[str] = []
        self.cancel_at = cancel_at

    def __call__(self, share: float, message: str, *, step: bool = False) -> None:
        self.messages.append((share, message))
        if step:
            self.steps.append(message)
        if share >= self.cancel_at:
            raise KeyboardInterrupt


def song(path: Path) -> Audio:
    return Audio(path, 0.0, title=path.name)


def into(folder: Path, path: Path, report: Heard | None = None, **how: Any) -> Stems:
    return separate.separate(song(path), folder / "stems", report or Heard(), "cpu", **how)


def refused(folder: Path, path: Path, error: type[UserError], **how: Any) -> str:
    with pytest.raises(error) as caught:
        into(folder, path, **how)
    assert not list((folder / "stems").glob("*"))
    return str(caught.value)


def sound(path: Path, rate: int = RATE, channels: int = 2) -> Any:
    return np.concatenate(list(stream(path, rate=rate, channels=channels, max_seconds=LIMIT)), axis=1)


def save(path: Path, values: Any, rate: int = RATE) -> Path:
    """As a wav of floats, which loses nothing."""
    with av.open(path, "w") as container:
        track = container.add_stream("pcm_f32le", rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(values.T.reshape(1, -1).astype(np.float32), format="flt", layout="stereo")
        frame.sample_rate = rate
        container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return path


def checkpoint(folder: Path, klass: type[HTDemucs], name: str = "made", **shape: Any) -> None:
    kwargs = {
        "sources": ["other", "vocals"], "channels": 8, "nfft": 1024, "depth": 3, "t_layers": 1, "t_heads": 2,
        "samplerate": 8_000, "segment": 9, **shape,
    }  # fmt: skip
    torch.manual_seed(1)
    model = klass(**kwargs)
    package = {"klass": klass, "args": (), "kwargs": kwargs, "state": model.state_dict()}
    torch.save(package, folder / f"{name}.th")


def use(settings: pytest.MonkeyPatch, folder: Path, name: str = "made") -> None:
    settings.setenv("DEMUCS_REPO", str(folder))
    settings.setenv("DEMUCS_MODEL", name)
    configured.settings.cache_clear()


# --- what comes out -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def verse() -> tuple[Any, Any]:
    """Ten seconds of the demo song, which the small model never heard: the voice and the music, equally loud."""
    begin, end = 12 * RATE, 22 * RATE
    voice, music = (sound(DEMO / f"harbor-light.{part}.opus")[:, begin:end] for part in ("vocals", "backing"))
    return voice, music * np.sqrt(np.mean(voice**2) / np.mean(music**2))


def distortion(truth: Any, guess: Any) -> float:
    """dB of signal to distortion."""
    return float(10 * np.log10(np.sum(truth**2) / np.sum((truth - guess) ** 2)))


def test_the_voice_comes_out_of_the_music(tmp_path: Path, verse: tuple[Any, Any]) -> None:
    voice, music = verse
    mix = voice + music
    stems = into(tmp_path, save(tmp_path / "mix.wav", mix))
    vocals, instrumental = sound(stems.vocals), sound(stems.instrumental)
    assert distortion(voice, mix) == pytest.approx(0.0, abs=0.1)
    assert distortion(voice, vocals) > 4.0
    assert distortion(music, instrumental) > 2.0


def test_the_files_equal_what_demucs_makes_of_the_song(tmp_path: Path, verse: tuple[Any, Any]) -> None:
    from demucs.api import Separator

    mix = sum(verse)[:, : 6 * RATE]
    stems = into(tmp_path, save(tmp_path / "mix.wav", mix))
    separator = Separator("tinydemucs", repo=CHECKPOINTS, shifts=0, device="cpu")
    _, theirs = separator.separate_tensor(torch.from_numpy(mix))
    rest = sum(theirs[name] for name in ("drums", "bass", "other"))
    step = 1 / 32768
    assert np.abs(sound(stems.vocals) - theirs["vocals"].numpy()).max() < 1e-4 + step
    assert np.abs(sound(stems.instrumental) - rest.numpy()).max() < 1e-4 + step


def test_in_bfloat16_the_voice_is_the_same_to_the_ear(
    tmp_path: Path, verse: tuple[Any, Any], settings: pytest.MonkeyPatch
) -> None:
    checkpoint(tmp_path, HTDemucs, channels=16, segment=4, bottom_channels=32)
    mix = save(tmp_path / "mix.wav", sum(verse)[:, : 6 * RATE])
    use(settings, tmp_path)
    exact = sound(into(tmp_path / "exact", mix).vocals)
    settings.setenv("DEMUCS_PRECISION", "bfloat16")
    configured.settings.cache_clear()
    narrow = sound(into(tmp_path / "narrow", mix).vocals)
    assert 25.0 < distortion(exact, narrow) < 90.0


class Liar(torch.nn.Conv1d):
    """As oneDNN does some of them."""

    def forward(self, input: Any) -> Any:
        right = super().forward(input)
        return right.flip(-1) if torch.is_autocast_enabled("cpu") else right


class Misled(HTDemucs):
    def eval(self) -> Any:
        self.tencoder[1].conv.__class__ = Liar
        return super().eval()


def test_a_number_format_in_which_a_layer_is_wrong_is_not_used(
    tmp_path: Path, tone: Path, settings: pytest.MonkeyPatch
) -> None:
    checkpoint(tmp_path, Misled, channels=16)
    use(settings, tmp_path)
    exact = sound(into(tmp_path / "exact", tone).vocals)
    settings.setenv("DEMUCS_PRECISION", "bfloat16")
    configured.settings.cache_clear()
    assert np.array_equal(sound(into(tmp_path / "narrow", tone).vocals), exact)


def test_the_files_are_flac_of_16_bits_at_the_models_rate_as_long_as_the_song(tmp_path: Path) -> None:
    mix = write(tmp_path / "tone.mp3", 2.0, codec="libmp3lame", rate=44_100, layout="stereo")
    stems = into(tmp_path, mix)
    for path in (stems.vocals, stems.instrumental):
        with av.open(path) as container:
            track = container.streams.audio[0]
            assert (track.codec_context.name, track.format.name, track.rate, track.channels) == ("flac", "s16", RATE, 2)
        assert sound(path).shape == sound(mix).shape
    assert sorted(path.name for path in (tmp_path / "stems").iterdir()) == ["instrumental.flac", "vocals.flac"]


def test_one_channel_is_as_loud_on_two(tmp_path: Path, verse: tuple[Any, Any]) -> None:
    """And a song may be shorter than a segment."""
    left = sum(verse)[0, : 2 * RATE]
    both = into(tmp_path / "both", save(tmp_path / "both.wav", np.stack([left, left])))
    with av.open(tmp_path / "one.wav", "w") as container:
        track = container.add_stream("pcm_f32le", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(left[None, :].copy(), format="flt", layout="mono")
        frame.sample_rate = RATE
        container.mux([*track.encode(frame), *track.encode(None)])
    one = into(tmp_path / "one", tmp_path / "one.wav")
    assert np.array_equal(sound(one.vocals), sound(both.vocals))


@pytest.mark.parametrize(
    ("suffix", "codec", "rate", "layout"),
    [("wav", "pcm_s16le", 8_000, "mono"), ("flac", "flac", 192_000, "stereo"), ("m4a", "aac", 48_000, "5.1")],
)
def test_odd_rates_and_layouts_are_separated_too(
    tmp_path: Path, suffix: str, codec: str, rate: int, layout: str
) -> None:
    stems = into(tmp_path, write(tmp_path / f"tone.{suffix}", 1.0, codec=codec, rate=rate, layout=layout))
    assert sound(stems.vocals).shape[1] == pytest.approx(RATE, rel=0.1)


def test_silence_stays_silent(tmp_path: Path) -> None:
    stems = into(tmp_path, save(tmp_path / "silence.wav", np.zeros((2, RATE))))
    assert np.abs(sound(stems.vocals)).max() == np.abs(sound(stems.instrumental)).max() == 0


def test_what_the_whole_is_shifted_by_is_not_sung(tmp_path: Path, verse: tuple[Any, Any]) -> None:
    mix = sum(verse)[:, : 3 * RATE] * 0.5
    plain = into(tmp_path / "plain", save(tmp_path / "plain.wav", mix))
    shifted = into(tmp_path / "shifted", save(tmp_path / "shifted.wav", mix + 0.2))
    np.testing.assert_allclose(sound(shifted.vocals), sound(plain.vocals), atol=1e-3)
    assert sound(shifted.instrumental).mean() - sound(plain.instrumental).mean() == pytest.approx(0.2, abs=1e-3)


def test_what_is_broken_in_the_middle_stays_in_time(tmp_path: Path) -> None:
    path = write(tmp_path / "tone.ts", 3.0, codec="aac", rate=44_100)
    content = bytearray(path.read_bytes())
    third = len(content) // 3
    content[third : third + len(content) // 6] = np.random.default_rng(1).bytes(len(content) // 6)
    path.write_bytes(content)
    assert sound(into(tmp_path, path).vocals).shape == sound(path).shape


def test_what_cannot_be_a_song_is_one_sentence(tmp_path: Path) -> None:
    blip = write(tmp_path / "blip.wav", 0.2, codec="pcm_s16le")
    assert refused(tmp_path, blip, TooShort) == "blip.wav is only 0.2 s long: too short to hold a song."
    hollow = write(tmp_path / "tone.flac", 3.0, codec="flac", rate=44_100)
    hollow.write_bytes(hollow.read_bytes()[:9000] + bytes(hollow.stat().st_size - 9000))
    refused(tmp_path, hollow, BrokenAudio)
    with av.open(tmp_path / "film.mp4", "w") as container:
        film = container.add_stream("mpeg4", rate=10)
        film.width = film.height = 64
        container.mux(film.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        container.mux(film.encode(None))
    assert refused(tmp_path, tmp_path / "film.mp4", NoSound) == "film.mp4 has no sound track."


# --- its way ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("tone") / "tone.wav", 7.0, codec="pcm_s16le", rate=RATE)


def test_progress_is_told_segment_by_segment(tmp_path: Path, tone: Path) -> None:
    told = Heard()
    into(tmp_path, tone, told)
    separating = [(share, message) for share, message in told.messages if message.startswith("Separating")]
    assert [message for _, message in separating] == [
        "Separating the voice: 0:02 of 0:07",
        "Separating the voice: 0:05 of 0:07",
        "Separating the voice: 0:07 of 0:07",
    ]
    shares = [share for share, _ in separating]
    assert shares == sorted(shares)
    assert (shares[-1], told.steps) == (1.0, [])


def test_a_cancel_passes_and_leaves_nothing_behind(tmp_path: Path, tone: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        into(tmp_path, tone, Heard(cancel_at=0.3))
    assert list((tmp_path / "stems").iterdir()) == []


def test_every_core_works_though_whisper_has_left_torch_with_one(tmp_path: Path, tone: Path) -> None:
    torch.set_num_threads(1)  # as a model of CTranslate2's does that is loaded with a thread for each worker
    into(tmp_path, tone)
    assert torch.get_num_threads() == models.threads()


def test_stems_that_are_there_are_used_again(tmp_path: Path, tone: Path) -> None:
    (tmp_path / "stems").mkdir()
    for name in ("vocals.flac", "instrumental.flac"):
        (tmp_path / "stems" / name).write_bytes(b"kept")
    told = Heard()
    assert into(tmp_path, tone, told).vocals.read_bytes() == b"kept"
    assert told.steps == ["The voice was separated before: used again"]


def test_one_stem_alone_is_what_a_crash_left_and_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "stems").mkdir()
    (tmp_path / "stems" / "instrumental.flac").write_bytes(b"half")
    stems = into(tmp_path, write(tmp_path / "tone.wav", 1.0, codec="pcm_s16le"))
    assert sound(stems.instrumental).shape == sound(stems.vocals).shape


def test_a_full_disk_is_told_as_such(tmp_path: Path, tone: Path) -> None:
    """In a process of its own, which may write files of no more than a kilobyte: the nearest to a full disk."""
    program = (
        "import errno, os, resource, signal, sys\n"
        "from pathlib import Path\n"
        "from tasks.separate import separate\n"
        "from tasks.models import nobody\n"
        "from tasks.song import Audio\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    separate(Audio(Path(sys.argv[1]), 7.0), Path(sys.argv[2]), nobody, 'cpu')\n"
        "except OSError as error:\n"
        "    print(error.errno == errno.EFBIG, os.listdir(sys.argv[2]))\n"
    )
    command = [sys.executable, "-c", program, tone, tmp_path / "stems"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "True []", done.stderr


def test_without_a_gpu_a_long_song_is_refused_unless_somebody_insists(
    tmp_path: Path, settings: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "tone.wav", 2.0, codec="pcm_s16le")
    settings.setenv("CPU_SEPARATION_MINUTES", "0.03")
    configured.settings.cache_clear()
    long = Audio(path, 2530.0)
    with pytest.raises(NotSeparated) as caught:
        separate.separate(long, tmp_path / "stems", Heard(), "cpu")
    assert str(caught.value) == (
        "The voice was not separated from the music: it is 42:10 long, "
        "and without a GPU only songs up to 0.03 minutes are separated."
    )
    assert "it is 0:02 long" in refused(tmp_path, path, NotSeparated)
    settings.setenv("CPU_SEPARATION_MINUTES", "0")
    configured.settings.cache_clear()
    assert refused(tmp_path, path, NotSeparated).endswith("music: without a GPU no song is separated here.")
    assert into(tmp_path, path, insisted=True).vocals.is_file()


def test_whether_the_voice_is_separated_by_itself(settings: pytest.MonkeyPatch) -> None:
    asked = Request(link="https://youtu.be/x")
    assert wanted(asked)
    assert not wanted(asked.but(preset=Preset.LOW))
    assert not wanted(asked.but(separate=False))
    assert wanted(asked.but(preset=Preset.LOW, separate=True))
    assert wanted(asked.but(preset=Preset.LOW, stems=True))
    settings.setenv("CPU_SEPARATION_MINUTES", "0")
    configured.settings.cache_clear()
    settings.setattr(models, "device", lambda: "cpu")
    assert not wanted(asked)
    assert wanted(asked.but(separate=True))
    settings.setattr(models, "device", lambda: "cuda")
    assert wanted(asked)


def test_without_the_packages_one_sentence_names_them(
    tmp_path: Path, tone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(separate, "find_spec", lambda name: None)
    sentence = refused(tmp_path, tone, NotInstalled)
    assert sentence == "Separating the voice needs packages that are not installed here."
    assert not wanted(Request(link="https://youtu.be/x"))


def test_nothing_heavy_is_imported_before_a_voice_is_separated() -> None:
    program = "import sys, tasks.gpu; print([name for name in ('torch', 'demucs') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


# --- its models ---------------------------------------------------------------------------------


def test_a_checkpoint_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, tone: Path, settings: pytest.MonkeyPatch
) -> None:
    damaged = (
        'The voice was not separated from the music: the Demucs model "made" cannot be read, its files are damaged.'
    )
    use(settings, tmp_path)
    assert 'no Demucs model "made"' in refused(tmp_path, tone, NotSeparated)
    (tmp_path / "made.th").write_bytes(b"no checkpoint")
    assert refused(tmp_path, tone, NotSeparated) == damaged
    (tmp_path / "made.th").write_bytes((CHECKPOINTS / "tinydemucs.th").read_bytes()[:100_000])
    assert refused(tmp_path, tone, NotSeparated) == damaged
    (tmp_path / "made.th").rename(tmp_path / "made-0123abcd.th")  # the sum that it should have
    assert refused(tmp_path, tone, NotSeparated) == damaged
    (tmp_path / "made-0123abcd.th").unlink()
    (tmp_path / "made.yaml").write_text("models: [gone]")
    assert refused(tmp_path, tone, NotSeparated) == damaged
    (tmp_path / "made.yaml").unlink()
    checkpoint(tmp_path, HTDemucs, sources=["drums", "bass"])
    assert 'the Demucs model "made" knows no voice' in refused(tmp_path, tone, NotSeparated)


def test_a_bag_of_safetensors_as_the_hub_has_it_gives_the_same(
    tmp_path: Path, tone: Path, settings: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    expected = sound(into(tmp_path, tone).vocals)
    package = torch.load(CHECKPOINTS / "tinydemucs.th", "cpu", weights_only=False)
    segment = package["kwargs"]["segment"]
    kwargs = package["kwargs"] | {
        "segment": {"_type": "fraction", "numerator": segment.numerator, "denominator": segment.denominator}
    }
    metadata = {"klass": "demucs.htdemucs.HTDemucs", "args": "[]", "kwargs": json.dumps(kwargs)}
    tensors = {name: values.contiguous() for name, values in package["state"].items()}
    save_file(tensors, tmp_path / "955717e8.safetensors", metadata)
    (tmp_path / "made.yaml").write_text("models: ['955717e8', '955717e8']\nweights: [[1, 1, 1, 0], [0, 0, 0, 1]]\n")
    use(settings, tmp_path)
    np.testing.assert_allclose(sound(into(tmp_path / "hub", tone).vocals), expected, atol=1e-4)


class Cramped(HTDemucs):
    """On a machine that bears five seconds at a time."""

    bears = 5.0

    def forward(self, mix: Any) -> Any:
        if mix.shape[-1] > self.bears * self.samplerate:
            raise RuntimeError(
                '[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can\'t allocate memory: "…"'
            )
        return super().forward(mix)


def test_where_memory_is_short_segments_are_shorter_and_the_song_is_whole(
    tmp_path: Path, tone: Path, settings: pytest.MonkeyPatch
) -> None:
    checkpoint(tmp_path, Cramped)
    checkpoint(tmp_path, HTDemucs, "roomy", segment=5)
    told = Heard()
    use(settings, tmp_path)
    stems = into(tmp_path, tone, told)
    assert told.steps == [
        "Too little memory to separate the voice on the CPU; beginning again on the CPU in segments of 7 s",
        "Too little memory to separate the voice on the CPU in segments of 7 s; "
        "beginning again on the CPU in segments of 5 s",
    ]
    use(settings, tmp_path, "roomy")
    np.testing.assert_allclose(
        sound(stems.vocals, 8_000), sound(into(tmp_path / "roomy", tone).vocals, 8_000), atol=1e-4
    )


def test_where_no_memory_is_left_one_sentence_says_so(
    tmp_path: Path, tone: Path, settings: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(tmp_path, HTDemucs)
    use(settings, tmp_path)
    monkeypatch.setattr(ladder, "available", lambda: 1)
    sentence = refused(tmp_path, tone, NotSeparated)
    assert sentence == "The voice was not separated from the music: there is too little memory for it."
