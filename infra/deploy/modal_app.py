"""The far side on Modal: `modal deploy -m infra.deploy.modal_app`.

Singer, a class, so that a container loads its models once; weights stand on a Volume, so that they are downloaded once.
fetch, a function without a GPU: YouTube sees it at another address than ours.
Deployed with the MAX_MINUTES, MAX_MEGABYTES, WHISPER_MODEL, DEMUCS_MODEL and MODAL_APP of the machine that deploys it.
"""

# pyright: reportUnknownMemberType=false
# (the SDK is typed in part)

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import modal

from infra.settings import settings
from tasks.remote import work
from tasks.remote.call import FETCHING, WORKING, WORKING_PER_SECOND
from tasks.remote.modal import news_name

GPU = "L4"
IDLE = 60  # seconds that a container waits for the next song, paid for
FETCH_IDLE = 5  # seconds; nothing stays loaded there
FETCH_MEMORY = 1024  # MiB: a sound of MAX_MEGABYTES stands there twice while it is sent
DATA = "/data"
CUDA = "nvidia/cuda:12.8.1-cudnn-runtime-ubuntu24.04"  # CTranslate2 needs cuBLAS and cuDNN
PYTHON = "3.12"
FOR_BOTH = [  # the bounds are those of pyproject.toml
    "numpy>=1.26",
    "pydantic>=2.11",
    "pydantic-settings>=2.8",
    "httpx>=0.28",
    "filelock>=3.17",
    "platformdirs>=4.3",
]
PACKAGES = [  # what tasks.gpu needs, and no more
    "faster-whisper>=1.2",
    "ctranslate2>=4.6",
    "av>=14",
    "torch>=2.8",
    "demucs>=4.1",
    "whisperx>=3.8",
    "pyyaml>=6.0",
    "psutil>=7.0",
    *FOR_BOTH,
]
FETCH_PACKAGES = [
    "yt-dlp[default,deno,curl-cffi]>=2026.8.19",
    "imageio-ffmpeg>=0.6",
    "psutil>=7.0",
    *FOR_BOTH,
]  # … tasks.download

NAME = settings().modal_app

environment = {
    "YT_LYRICS_DATA": DATA,
    "MAX_MINUTES": str(settings().max_minutes),
    "MAX_MEGABYTES": str(settings().max_megabytes),
    "MODAL_APP": NAME,
    "DEMUCS_MODEL": settings().demucs_model,
}
if settings().whisper_model:
    environment["WHISPER_MODEL"] = str(settings().whisper_model)

# Left to itself Modal takes Python files only, and would leave the network of tasks/letters behind.
LEFT_OUT = ~modal.FilePatternMatcher("**/*.py", "**/*.npz")

image = (
    modal.Image.from_registry(CUDA, add_python=PYTHON)
    .uv_pip_install(*PACKAGES)
    .env(environment)
    .add_local_python_source("infra", "tasks", ignore=LEFT_OUT)
)
fetch_image = (
    modal.Image.debian_slim(python_version=PYTHON)
    .uv_pip_install(*FETCH_PACKAGES)
    .env(environment)
    .add_local_python_source("infra", "tasks", ignore=LEFT_OUT)
)
app = modal.App(NAME, image=image)
weights = modal.Volume.from_name(f"{NAME}-weights", create_if_missing=True)
news = modal.Dict.from_name(news_name(NAME), create_if_missing=True)


@app.cls(
    gpu=GPU,
    volumes={DATA: weights},
    timeout=round(WORKING + WORKING_PER_SECOND * settings().max_seconds),
    scaledown_window=IDLE,
)
class Singer:
    @modal.enter()
    def load(self) -> None:
        from tasks import gpu

        gpu.warm()

    @modal.method()
    def sing(self, order: dict[str, Any]) -> dict[str, Any]:
        return work.work(order, telling())


@app.function(image=fetch_image, memory=FETCH_MEMORY, timeout=round(FETCHING), scaledown_window=FETCH_IDLE)
def fetch(order: dict[str, Any]) -> dict[str, Any]:
    return work.fetch(order, telling())


def telling() -> Callable[[dict[str, Any]], None]:
    """What takes news to whoever waits for the call that runs here."""
    call = modal.current_function_call_id()

    def tell(latest: dict[str, Any]) -> None:
        with suppress(modal.Error):  # news that get lost cost nobody the song
            news.put(call, latest)

    return tell
