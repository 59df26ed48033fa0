"""The far side on Modal: `modal deploy -m infra.deploy.modal_app`.

A class, so that a container loads its models once; weights stand on a Volume, so that they are downloaded once.
Deployed with the MAX_MINUTES, WHISPER_MODEL and MODAL_APP of the machine that deploys it.
"""

# pyright: reportUnknownMemberType=false
# (the SDK is typed in part)

from __future__ import annotations

from contextlib import suppress
from typing import Any

import modal

from infra.jobs.request import Request
from infra.settings import settings
from tasks.remote.call import WORKING, WORKING_PER_SECOND
from tasks.remote.modal import news_name
from tasks.remote.work import work

GPU = "L4"
IDLE = 60  # seconds that a container waits for the next song, paid for
DATA = "/data"
CUDA = "nvidia/cuda:12.8.1-cudnn-runtime-ubuntu24.04"  # CTranslate2 needs cuBLAS and cuDNN
PACKAGES = [  # what tasks.gpu needs, and no more; the bounds are those of pyproject.toml
    "faster-whisper>=1.2",
    "ctranslate2>=4.6",
    "av>=14",
    "numpy>=1.26",
    "pydantic>=2.11",
    "pydantic-settings>=2.8",
    "httpx>=0.28",
    "filelock>=3.17",
    "platformdirs>=4.3",
]

NAME = settings().modal_app

environment = {"YT_LYRICS_DATA": DATA, "MAX_MINUTES": str(settings().max_minutes), "MODAL_APP": NAME}
if settings().whisper_model:
    environment["WHISPER_MODEL"] = str(settings().whisper_model)

image = (
    modal.Image.from_registry(CUDA, add_python="3.12")
    .uv_pip_install(*PACKAGES)
    .env(environment)
    .add_local_python_source("infra", "tasks")
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
        from tasks import models

        _, folder = models.chosen(Request(link="-"))
        models.load(folder, models.device())

    @modal.method()
    def sing(self, order: dict[str, Any]) -> dict[str, Any]:
        call = modal.current_function_call_id()

        def tell(latest: dict[str, Any]) -> None:
            with suppress(modal.Error):  # news that get lost cost nobody the song
                news.put(call, latest)

        return work(order, tell)
