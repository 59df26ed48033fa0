"""yt-lyrics: the words of a song, timed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from flows import terminal
from flows.client import Api
from infra.errors import UNEXPECTED, BadRequest, MissingFile, UserError, disk_writes
from infra.jobs.request import Format, Preset, Request
from infra.settings import Settings, settings

DEMO = Path(__file__).parent / "demo" / "harbor-light.mix.opus"
START_PATIENCE = 120.0  # seconds

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog="Everything that can be configured: `yt-lyrics doctor`. Start with `yt-lyrics demo`.",
)

Data = Annotated[
    Path | None,
    typer.Option("--data", help="Folder for database, audio, results, weights and logs [env: YT_LYRICS_DATA]."),
]
Url = Annotated[
    str | None,
    typer.Option("--url", envvar="YT_LYRICS_URL", help="The service; the one on this data folder if absent."),
]
Language = Annotated[str | None, typer.Option(help="Language that is sung, as en, es, ja …; heard if absent.")]
Model = Annotated[str | None, typer.Option(help="Whisper model by name, or a folder that holds one.")]
Quality = Annotated[Preset, typer.Option("--preset", help="low is fastest, high is best.")]


@app.command()
def up(
    data: Data = None,
    port: Annotated[int | None, typer.Option(help="Port of the page and API; free if absent.")] = None,
    prefect_port: Annotated[int | None, typer.Option(help="Port of Prefect's server; free if absent.")] = None,
    listen: Annotated[str | None, typer.Option(help="Address to listen on; 0.0.0.0 for every one.")] = None,
) -> None:
    """Start everything: database, Prefect, workers, API and page. Ctrl-C stops it; nothing is lost.

    DATABASE_URL and PREFECT_API_URL, where set, are used instead of the embedded ones.
    """
    from infra.stack.lock import Addresses
    from infra.stack.stack import run

    chosen = configured(data, port=port, prefect_port=prefect_port, listen=listen)
    began = time.monotonic()

    def tell(sentence: str) -> None:
        terminal.err.print(Text(f"{time.monotonic() - began:6.1f} s  ", style="dim") + Text(sentence))

    def ready(addresses: Addresses) -> None:
        tell("Everything is ready; Ctrl-C stops it")
        terminal.sentences(
            [("Page", addresses.page), ("Prefect", addresses.prefect), ("Data", addresses.data)],
        )

    asyncio.run(run(chosen, tell, ready))


@app.command()
def demo(
    data: Data = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running afterwards.")] = False,
    speed: Annotated[float, typer.Option(min=0.1, help="How fast the terminal sings along.")] = 2.0,
) -> None:
    """Start everything, send a song through it, and sing it along in this terminal."""
    from tasks.render import read

    with a_service(configured(data), keep=keep) as (service, page):
        began = time.monotonic()
        with terminal.watching("Harbor Light") as show:
            id = service.submit(str(DEMO))
            job = service.follow(id, show)
        if job["status"] != "completed":
            raise BadRequest(what=job.get("error") or f"The demo song ended as {job['status']}.")
        song = read(service.result(job), Format.JSON)
        terminal.err.print(f"{len(song.words)} words in {time.monotonic() - began:.0f} s, by {song.engine}\n")
        if terminal.out.is_terminal:
            terminal.sing(song, speed)
        else:
            terminal.print_lines(song)
        terminal.out.print(f"\nThe page that sings along: {page}/#job={id}")
        if not keep:
            terminal.out.print("It is gone with this command: `yt-lyrics up` brings it back, with this song in it.")


@app.command()
def submit(
    songs: Annotated[list[str], typer.Argument(metavar="LINK|FILE…", help="YouTube links, or files to upload.")],
    preset: Quality = Preset.REGULAR,
    language: Language = None,
    model: Model = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show the progress until the song is done.")] = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Send songs to a running service."""
    service = Api(url or running_url(configured(data)))
    failed = False
    for song in songs:
        id = service.submit(song, preset=preset, language=language, model=model)
        terminal.out.print(id if len(songs) == 1 else f"{id}  {song}", soft_wrap=True)
        if not wait:
            continue
        with terminal.watching(Path(song).name) as show:
            job = service.follow(id, show)
        if job["status"] != "completed":
            failed = True
            complain(job.get("error") or f"The job was {job['status']}.", job.get("advice", ""))
        else:
            terminal.out.print(f"{service.url}/#job={id}", soft_wrap=True)
    if failed:
        raise typer.Exit(1)


@app.command()
def transcribe(
    songs: Annotated[list[str], typer.Argument(metavar="FILE|LINK…", help="Audio or video files, or YouTube links.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")] = Path(),
    format: Annotated[
        str, typer.Option("--format", "-f", help=f"Any of {', '.join(Format)}, separated by commas.")
    ] = ",".join(Format),
    language: Language = None,
    model: Model = None,
    preset: Quality = Preset.REGULAR,
) -> None:
    """Transcribe here and now, without a server: one file per format in --out, named after the song."""
    formats = chosen_formats(format)
    failed = False
    for song in songs:
        try:
            for path in transcribe_one(song, out, formats, language, model, preset):
                terminal.out.print(str(path), soft_wrap=True)
        except UserError as error:
            if len(songs) == 1:
                raise
            failed = True
            complain(f"{song}: {error}", error.advice)
    if failed:
        raise typer.Exit(1)


@app.command()
def jobs(
    job: Annotated[str | None, typer.Argument(help="A job, to see its steps.")] = None,
    status: Annotated[str | None, typer.Option(help="Only queued, processing, completed, error or cancelled.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel the job.")] = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """The newest jobs of a running service, or one job's steps."""
    service = Api(url or running_url(configured(data)))
    if job is None:
        if cancel:
            raise BadRequest(what="Say which job to cancel: yt-lyrics jobs JOB --cancel.")
        terminal.out.print(jobs_table(service.jobs(status=status, limit=limit)))
        return
    if cancel:
        service.cancel(job)
    show_job(service, job)


@app.command()
def doctor(data: Data = None) -> None:
    """Say what is configured, what is missing and what that costs; exit 1 if songs cannot be transcribed."""
    from flows.doctor import Verdict, examine

    symbols = {Verdict.GOOD: "[green]✓[/]", Verdict.MISSING: "[yellow]–[/]", Verdict.BROKEN: "[red]✗[/]"}
    table = Table(box=None, show_header=False, padding=(0, 1))
    for _ in range(3):
        table.add_column(overflow="fold")
    broken = False
    for finding in examine(configured(data)):
        broken |= finding.verdict is Verdict.BROKEN
        table.add_row(symbols[finding.verdict], f"[bold]{finding.name}[/]", Text(finding.sentence))
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


def running_url(chosen: Settings) -> str:
    from infra.stack.lock import running

    there = running(chosen.data)
    if there is None:
        raise BadRequest(
            what="No service is running on this data folder: start one with `yt-lyrics up`, or give --url."
        )
    return there.page


@contextmanager
def a_service(chosen: Settings, *, keep: bool) -> Generator[tuple[Api, str]]:
    """The service that is running on the data folder, or one for as long as this block lasts."""
    from infra.stack.lock import running

    there = running(chosen.data)
    if there is not None:
        terminal.err.print(f"Using the service that is up already: {there.page}")
        yield Api(there.page), there.page
        return
    chosen.data.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "flows.cli", "up", "--data", str(chosen.data)]
    # Kept, it must outlive this terminal's Ctrl-C; otherwise we stop it ourselves.
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            while (there := running(chosen.data)) is None:
                if process.poll() is not None:
                    raise BadRequest(what=f"The service did not start; its logs: {chosen.data / 'logs'}")
                time.sleep(0.1)
            yield Api(there.page), there.page
        except BaseException:
            keep = False
            raise
        finally:
            if keep:
                terminal.out.print(f"Everything stays up: {there.page if there else ''} (stop it: kill {process.pid})")
                process.returncode = 0  # ours no longer
            else:
                process.terminate()


def chosen_formats(text: str) -> list[Format]:
    known = {fmt.value: fmt for fmt in Format}
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise BadRequest(what=f'"{", ".join(unknown)}" is no format; choose from {", ".join(known)}.')
    return [known[name] for name in dict.fromkeys(names)]


def transcribe_one(
    song: str, out: Path, formats: list[Format], language: str | None, model: str | None, preset: Preset
) -> list[Path]:
    """The same plain functions that the flows call, in this process."""
    from tasks import gpu
    from tasks.render import render

    request = Request(link=song[:4096] or "-", language=checked_language(language), model=model, preset=preset)
    with disk_writes(str(out)):
        out.mkdir(parents=True, exist_ok=True)
    with terminal.reporting(Path(song).name) as report, fetched(song, report) as audio:
        result = gpu.sing(audio, request, report)
        stem = fitting(Path(song).stem if not is_link(song) else (audio.title or audio.video_id or "song"))
        written: list[Path] = []
        for fmt in formats:
            path = out / f"{stem}.{fmt.value}"
            with disk_writes(str(path)):
                path.write_text(render(result, fmt), encoding="utf-8")
            written.append(path)
    if result.notes and not result.lines:
        terminal.err.print(result.notes[0])
    return written


@contextmanager
def fetched(song: str, report: Any) -> Generator[Any]:
    """The file itself, or what a link leads to, for as long as this block lasts."""
    from tasks.song import Audio

    if not is_link(song):
        path = Path(song)
        if not path.is_file():
            raise MissingFile(name=song)
        yield Audio(path=path, duration=0.0, title=path.stem)
        return
    from infra import links
    from tasks.download import download

    with tempfile.TemporaryDirectory(prefix="yt-lyrics-") as folder:
        yield download(links.parse(song, settings().allowed_hosts), Path(folder), report)


def is_link(song: str) -> bool:
    return not Path(song).is_file() and (
        "://" in song or song.lower().startswith(("www.", "youtu", "m.youtube", "music."))
    )


def checked_language(language: str | None) -> str | None:
    from infra.errors import UnknownLanguage

    if language is None or (language.isascii() and language.isalpha() and 2 <= len(language) <= 3):
        return language.lower() if language else None
    raise UnknownLanguage(language=language)


def fitting(stem: str) -> str:
    """The stem as a file name that every file system takes: no separators, at most 240 bytes."""
    clean = (
        "".join("_" if character in "/\\\0" or character < " " else character for character in stem).strip() or "song"
    )
    return clean.encode()[:240].decode(errors="ignore")


def jobs_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold")
    for column in ("job", "status", "%", "song", "made"):
        table.add_column(column, justify="right" if column == "%" else "left", no_wrap=column == "job")
    for row in rows:
        song = row.get("title") or row.get("youtubeUrl", "")
        made = row.get("createdAt", "")[:16].replace("T", " ")
        table.add_row(row["jobId"], row["status"], str(row["pct"]), Text(song), made)
    return table


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
        terminal.out.print(Text(f"{step['timestamp'][11:19]}  {step['status']:<12}{step['message']}{took}"))


def complain(sentence: str, advice: str = "") -> None:
    terminal.err.print(Text("Error: ", style="bold red") + Text(sentence) + Text(f" ({advice})" if advice else ""))


def main() -> None:
    """Every failure is one sentence; what nobody foresaw is kept in a log for the report."""
    try:
        app()
    except UserError as error:
        complain(str(error), error.advice)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        complain(f"{error.strerror or error}: {error.filename}" if error.filename else str(error))
        sys.exit(1)
    except Exception:
        complain(f"{UNEXPECTED} {kept_traceback()}")
        sys.exit(1)


def kept_traceback() -> str:
    path = settings().data / "logs" / "cli.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as log:
        log.write(traceback.format_exc())
    return f"({path})"


if __name__ == "__main__":
    main()
