"""yt-lyrics: the words of a song, timed."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import shlex
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from flows import many, terminal
from flows.client import Api
from flows.doctor import Verdict
from flows.doctor import prefect as prefect_answers
from flows.here import chosen_formats, fitting, names, requested, taken_along, transcribed, written
from flows.lyrics import lyrics_in
from flows.service import a_service, check_before_start, running_url
from infra.errors import UNEXPECTED, BadRequest, UnknownLanguage, UserError
from infra.folders import writable
from infra.jobs.request import EngineName, Format, Preset, Provider
from infra.jobs.states import Status
from infra.settings import Settings, settings

DEMO = Path(__file__).parent / "demo" / "harbor-light.mix.opus"

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog="Start with `yt-lyrics demo`. `yt-lyrics doctor` says what is configured, and what is missing.",
)


def env(name: str) -> str:
    return rf" \[env var: {name}]"


def version(asked: bool) -> None:
    if asked:
        terminal.say(f"yt-lyrics {metadata.version('yt-lyrics')}")
        raise typer.Exit


def checked_language(language: str | None) -> str | None:
    if language is None or (language.isascii() and language.isalpha() and 2 <= len(language) <= 3):
        return language.lower() if language else None
    raise UnknownLanguage(language=language)


Data = Annotated[
    Path | None,
    typer.Option("--data", help=f"Folder for database, audio, results, weights and logs.{env('YT_LYRICS_DATA')}"),
]
Url = Annotated[
    str | None,
    typer.Option("--url", envvar="YT_LYRICS_URL", help="The service; the one on this data folder if absent."),
]
Language = Annotated[
    str | None,
    typer.Option(callback=checked_language, help="Language that is sung, as en, es, ja …; heard if absent."),
]
Quality = Annotated[Preset, typer.Option("--preset", help="low is fastest, high is best.")]
Engine = Annotated[
    EngineName | None,
    typer.Option(help="Who hears the words; by preset and keys if absent. faster-whisper sends nothing anywhere."),
]
Prompt = Annotated[
    str | None, typer.Option(help="Names and rare words as they are spelt in the song.", show_default=False)
]
Lyrics = Annotated[
    str | None,
    typer.Option(
        "--lyrics",
        metavar="FILE",
        help="The song's words as a text (- reads them from the input): timed instead of guessed.",
        show_default=False,
    ),
]
Separate = Annotated[
    bool | None,
    typer.Option(
        "--separate/--no-separate",
        help="Whether the voice is separated from the music first; where it can be, if absent.",
        show_default=False,
    ),
]
Align = Annotated[bool, typer.Option("--align", help="Align words again that have times already (WhisperX).")]
Stems = Annotated[bool, typer.Option("--stems", help="The voice and the music as files, too (FLAC).")]


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: yt-lyrics up --port 8000 --data lyrics")
def up(
    data: Data = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help=f"Port of the page and API; free if absent.{env('PORT')}")
    ] = None,
    prefect_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help=f"Port of Prefect's server; free if absent.{env('PREFECT_PORT')}"),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(help=f"Address to listen on: 127.0.0.1 if absent, 0.0.0.0 for every one.{env('LISTEN')}"),
    ] = None,
) -> None:
    """Start everything: database, Prefect, workers, API and page. Ctrl-C stops it; nothing is lost.

    DATABASE_URL and PREFECT_API_URL, where set, are used instead of the embedded ones.
    """
    from infra.stack.lock import Addresses
    from infra.stack.stack import run

    chosen = configured(data, port=port, prefect_port=prefect_port, listen=listen)
    check_before_start(chosen)
    began = time.monotonic()

    def tell(sentence: str) -> None:
        with suppress(OSError):  # the terminal may be closed by now
            terminal.err.print(Text.assemble((f"{time.monotonic() - began:6.1f} s  ", "dim"), sentence))

    def ready(addresses: Addresses) -> None:
        tell("Everything is ready; Ctrl-C stops it")
        terminal.sentences(
            [("Page", addresses.page), ("Prefect", addresses.prefect), ("Data", addresses.data)],
        )

    asyncio.run(run(chosen, tell, ready))


@app.command(epilog="Example: yt-lyrics demo --keep")
def demo(
    data: Data = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running afterwards.")] = False,
    speed: Annotated[float, typer.Option(min=0.1, help="How fast the terminal sings along.")] = 2.0,
) -> None:
    """Start everything, send a song through it, and sing it along in this terminal."""
    from tasks.render import read

    with a_service(configured(data), keep=keep) as (service, ours):
        began = time.monotonic()
        id = service.submit(str(DEMO), name="Harbor Light.opus")
        with terminal.watching("Harbor Light") as show:
            job = service.follow(id, show)
        song = read(service.result(job), Format.JSON)
        terminal.err.print(f"{len(song.words)} words in {time.monotonic() - began:.0f} s, by {song.engine}\n")
        if terminal.out.is_terminal:
            terminal.sing(song, speed)
        else:
            terminal.print_lines(song)
        terminal.say(f"\nThe page that sings along: {service.url}/#job={id}")
        if ours and not keep:
            again = shlex.join(["yt-lyrics", "up", *(["--data", str(data)] if data else [])])
            terminal.say(f"It is gone with this command: `{again}` brings it back, with this song in it.")


@app.command(
    epilog="Example: yt-lyrics submit https://youtu.be/… song.mp3 --wait\n\n"
    "Many songs: yt-lyrics submit --batch links.txt --wait, where links.txt holds one link a line"
)
def submit(
    songs: Annotated[
        list[str] | None, typer.Argument(metavar="LINK|FILE…", help="YouTube links, or files to upload.")
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|PLAYLIST",
            help="Up to 500 songs instead: a file with one link a line (- reads it from the input), "
            "or the link of a playlist, an album or a channel.",
        ),
    ] = None,
    preset: Quality = Preset.REGULAR,
    language: Language = None,
    engine: Engine = None,
    model: Annotated[str | None, typer.Option(help="The engine's model by name; the preset's if absent.")] = None,
    prompt: Prompt = None,
    lyrics: Lyrics = None,
    separate: Separate = None,
    align: Align = False,
    stems: Stems = False,
    provider: Annotated[
        Provider | None, typer.Option(help="Who transcribes; chosen by time, cost and queue if absent.")
    ] = None,
    race: Annotated[int, typer.Option(min=1, max=2, help="2: by two providers at once, the first to finish wins.")] = 1,
    wait: Annotated[bool, typer.Option("--wait", help="Show the progress until the song is done.")] = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Send songs to a running service; prints the job of each, or the batch of all."""
    if bool(songs) == (batch is not None):
        raise BadRequest(what="Give links or files, or many of them with --batch.")
    words = lyrics_in(lyrics, songs=len(songs or ())) if lyrics else None
    service = Api(url or running_url(configured(data)))
    how: dict[str, Any] = {"preset": preset, "language": language, "model": model, "provider": provider}
    how |= {"race": race if race > 1 else None, "engine": engine, "prompt": prompt, "separate": separate}
    how |= {"align": align or None, "stems": stems or None, "lyrics": words}
    if batch is not None:
        many.submit(service, batch, wait=wait, **how)
        return

    def send(song: str) -> None:
        id = service.submit(song, **how)
        terminal.say(id if len(songs or ()) == 1 else f"{id}  {song}")
        if wait:
            with terminal.watching(Path(song).name) as show:
                service.follow(id, show)
            terminal.say(f"{service.url}/#job={id}")

    each(songs or [], send)


@app.command(epilog="Example: yt-lyrics transcribe song.mp3 --format lrc,srt --out lyrics")
def transcribe(
    songs: Annotated[list[str], typer.Argument(metavar="FILE|LINK…", help="Audio or video files, or YouTube links.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")] = Path(),
    format: Annotated[
        str, typer.Option("--format", "-f", help=f"Any of {', '.join(Format)}, separated by commas.")
    ] = ",".join(Format),
    language: Language = None,
    engine: Engine = None,
    model: Annotated[
        str | None,
        typer.Option(help=f"The engine's model by name, or a folder that holds one.{env('WHISPER_MODEL')}"),
    ] = None,
    preset: Quality = Preset.REGULAR,
    prompt: Prompt = None,
    lyrics: Lyrics = None,
    separate: Separate = None,
    align: Align = False,
    stems: Stems = False,
) -> None:
    """Transcribe here and now, without a server: one file per format in --out, named after the song."""
    formats = chosen_formats(format)
    how = {"engine": engine, "prompt": prompt, "separate": separate, "align": align, "stems": stems}
    how["lyrics"] = lyrics_in(lyrics, songs=len(songs)) if lyrics else None
    request = requested(language=language, model=model, preset=preset, **how)
    settings()  # what is wrong with them is said before any work
    writable(out)
    taken: set[str] = set()

    def write(song: str) -> None:
        with tempfile.TemporaryDirectory(dir=out, prefix=".stems-") as folder:
            with terminal.reporting(Path(song).name) as report:
                stem, result = transcribed(song, request, report, Path(folder))
            for note in result.notes:
                terminal.err.print(Text(note))
            name = next(name for name in names(stem) if name not in taken)
            taken.add(name)
            for path in (*written(result, out, name, formats), *taken_along(Path(folder), out, name, request)):
                terminal.say(str(path))

    each(songs, write)


@app.command(epilog="Example: yt-lyrics export song.json old.lrc --format srt,ass --out subtitles")
def export(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="Lyrics or subtitles, by any program.")],
    format: Annotated[str, typer.Option("--format", "-f", help=f"Any of {', '.join(Format)}, separated by commas.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")] = Path(),
    source: Annotated[
        Format | None,
        typer.Option("--from", help="What the files are; by name and content if absent.", show_default=False),
    ] = None,
) -> None:
    """Turn lyrics files into other formats: one file per format in --out, named after the first one.

    json holds everything; ttml, elrc, vtt and ass a time for each word; lrc and srt for each line; txt the words alone.
    What a format cannot hold is said, and no file that is read is written over.
    """
    from flows.export import free_name, opened

    formats = chosen_formats(format)
    writable(out)
    taken: set[str] = set()
    inputs = [Path(file).expanduser() for file in files]

    def convert(file: str) -> None:
        lyrics = opened(file, formats, source)
        for aside in lyrics.asides(formats):
            terminal.err.print(Text(terminal.readable(aside)))
        name = free_name(fitting(Path(file).stem), formats, out, taken, inputs)
        for path in written(lyrics.song, out, name, formats):
            terminal.say(str(path))

    each(files, convert)


@app.command(epilog="Example: yt-lyrics jobs --status processing")
def jobs(
    job: Annotated[str | None, typer.Argument(help="A job, to see its steps.")] = None,
    status: Annotated[Status | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    batch: Annotated[str | None, typer.Option(metavar="BATCH", help="A batch, to see its songs.")] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel the job, or the batch.")] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try a failed or cancelled job again, or the failed ones of the batch.")
    ] = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """The newest jobs of a running service, one job's steps, or the songs of a batch."""
    if (cancel or retry) and job is None and batch is None:
        raise BadRequest(what="Say which job: yt-lyrics jobs JOB --cancel, or --retry.")
    service = Api(url or running_url(configured(data)))
    if batch is not None:
        many.show(service, batch, cancel=cancel, retry=retry)
        return
    if job is None:
        terminal.out.print(jobs_table(service.jobs(status=status, limit=limit)))
        return
    if cancel:
        service.cancel(job)
    if retry:
        service.retry(job)
    show_job(service, job)


@app.command(epilog="Example: PREFECT_API_URL=https://prefect.internal/api yt-lyrics deploy")
def deploy() -> None:
    """Make the work pools and deploy the flows on the Prefect server that PREFECT_API_URL names.

    Pools that are there already stay as they are. `yt-lyrics up` does all this on its own server by itself.
    """
    from infra.stack.prefect import deploy_everything

    if settings().prefect_api_url is None:
        raise BadRequest(what="PREFECT_API_URL is not set; on a server of its own `yt-lyrics up` deploys by itself.")
    verdict, sentence = prefect_answers(settings())
    if verdict is Verdict.BROKEN:
        raise BadRequest(what=f"{sentence}.")
    raise typer.Exit(deploy_everything(settings().prefect_api_url or "", settings().environment()))


@app.command(epilog="Example: DATABASE_URL=postgresql://… PREFECT_API_URL=http://…/api yt-lyrics mirror")
def mirror() -> None:
    """Keep the jobs table true to Prefect's runs; `yt-lyrics up` has its own. Of several, one leads, the rest wait."""
    from infra.jobs.mirror import run_mirror

    for name, given in (("DATABASE_URL", settings().database_url), ("PREFECT_API_URL", settings().prefect_api_url)):
        if given is None:
            raise BadRequest(what=f"{name} is not set; with databases of its own `yt-lyrics up` mirrors by itself.")
    run_mirror()


@app.command(
    epilog="Example: yt-lyrics models htdemucs align-en --download\n\n"
    "Other folders are named by WHISPER_MODEL, DEMUCS_REPO and ALIGN_REPO; another hub by HF_ENDPOINT."
)
def models(
    names: Annotated[list[str] | None, typer.Argument(metavar="MODEL…", help="Only these.", show_default=False)] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch them now, so that no song has to wait for them.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Compare their files with the checksums they came with; exit 1 if one differs."),
    ] = False,
    data: Data = None,
) -> None:
    """The models: what each is for, its size and licence, where it lies. Each is fetched when a song first needs it.

    whisper models hear the words, demucs models separate the voice from the music, align models time words that are
    known, each in its language.
    """
    from flows import weights

    if data is not None:
        os.environ["YT_LYRICS_DATA"] = str(data)
        settings.cache_clear()
    some = weights.chosen(names or [])
    if download and not some:
        raise BadRequest(what="Say which: yt-lyrics models base htdemucs --download.")
    if download:
        each([model.name for model in some], weights.download)
    if check:
        each([model.name for model in some or weights.ready()], weights.check)
    if not (download or check):
        terminal.out.print(weights.table(some or weights.every()))


@app.command(epilog="Example: DATABASE_URL=postgresql://… yt-lyrics doctor")
def doctor(data: Data = None) -> None:
    """Say what is configured, what is missing and what that costs; exit 1 if songs cannot be transcribed."""
    from flows.doctor import examine

    symbols = {Verdict.GOOD: ("✓", "green"), Verdict.MISSING: ("–", "yellow"), Verdict.BROKEN: ("✗", "red")}
    table = Table(box=None, show_header=False, padding=(0, 1))
    for _ in range(3):
        table.add_column(overflow="fold")
    broken = False
    for finding in examine(configured(data)):
        broken |= finding.verdict is Verdict.BROKEN
        table.add_row(Text(*symbols[finding.verdict]), Text(finding.name, "bold"), Text(finding.sentence))
    terminal.out.print(table)
    if broken:
        raise typer.Exit(1)


# --- what the commands share ----------------------------------------------------------------------


def configured(data: Path | None = None, **options: Any) -> Settings:
    """The settings, with what the command line says on top."""
    changes = {name: value for name, value in options.items() if value is not None}
    if data is not None:
        changes["yt_lyrics_data"] = data
    return settings().model_copy(update=changes)


def each(songs: list[str], work: Callable[[str], None]) -> None:
    """One song that fails does not stop the others."""
    failed = False
    for song in songs:
        try:
            work(song)
        except Exception as error:
            failed = True
            complain(error, about=song if len(songs) > 1 else "")
    if failed:
        raise typer.Exit(1)


def jobs_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold")
    for column in ("job", "status", "%", "age", "song"):
        table.add_column(column, justify="right" if column in "% age" else "left", no_wrap=True)
    for row in rows:
        song = row.get("title") or row.get("youtubeUrl", "")
        table.add_row(row["jobId"], row["status"], str(row["pct"]), age(row["createdAt"]), song)
    return table


def age(moment: str) -> str:
    """How long ago, in its largest unit: 40s, 12m, 3h, 5d."""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def show_job(service: Api, id: str) -> None:
    job = service.job(id)
    terminal.sentences(
        [
            ("song", job.get("title") or job.get("youtubeUrl", "")),
            ("status", f"{job['status']}, {job['pct']} %"),
            ("message", job.get("error") or job.get("statusMessage", "")),
            ("page", f"{service.url}/#job={id}"),
        ]
    )
    for step in service.steps(id):
        took = f"  {step['duration']:.1f} s" if step.get("duration") else ""
        began = datetime.fromisoformat(step["timestamp"]).astimezone()
        terminal.out.print(Text(f"{began:%H:%M:%S}  {step['status']:<12}{step['message']}{took}"))


def complain(error: Exception, about: str = "") -> None:
    """Every failure is one sentence; what nobody foresaw is kept in a log for the report."""
    advice = ""
    if isinstance(error, UserError):
        sentence, advice = str(error), error.advice
    elif isinstance(error, OSError):
        sentence = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
    else:
        sentence = f"{UNEXPECTED} ({kept_traceback()})"
    before = f"{about}: " if about and about not in sentence else ""
    after = f" ({advice})" if advice else ""
    terminal.err.print(Text.assemble(("Error: ", "bold red"), terminal.readable(before + sentence + after)))


def kept_traceback() -> Path:
    try:
        path = settings().data / "logs" / "cli.log"
        path.parent.mkdir(parents=True, exist_ok=True)
    except (UserError, OSError, ValueError):  # the settings may be what is wrong
        path = Path(tempfile.gettempdir()) / "yt-lyrics.log"
    with path.open("a") as log:
        log.write(traceback.format_exc())
    return path


def main() -> None:
    logging.getLogger().addHandler(logging.NullHandler())  # what matters is said; libraries' warnings are not for users
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that a demo takes its service with it
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        complain(error)
        sys.exit(1)


if __name__ == "__main__":
    main()
