"""Everything that can be configured, read from the environment and from `.env`.

Secrets are `SecretStr`: they appear in no log, repr, error or Prefect parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from infra.errors import BadRequest
from infra.jobs.request import Provider

NEVER = "never"  # a time that does not come, where leaving the variable out means the default
PRICES = {Provider.CUDA: 0.0, Provider.CPU: 0.0, Provider.MODAL: 1.10, Provider.RUNPOD: 0.79}

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    # Where things are
    yt_lyrics_data: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("yt-lyrics", appauthor=False)),
        description="Folder for the embedded database, kept audio, results, weights and logs.",
    )
    database_url: SecretStr | None = Field(
        default=None, description="PostgreSQL to use instead of the embedded one; may carry sslmode=require."
    )
    prefect_api_url: str | None = Field(
        default=None, description="Prefect server to use instead of the embedded one, ending in /api."
    )
    prefect_api_key: SecretStr | None = Field(default=None, description="Key for that Prefect server, if it asks one.")
    cloudinary_url: SecretStr | None = Field(
        default=None,
        description="cloudinary://KEY:SECRET@CLOUD; audio and results go there instead of the data folder.",
    )

    # The HTTP service
    listen: str = Field(default="127.0.0.1", description="Address the API and page listen on; 0.0.0.0 for every one.")
    port: int | None = Field(default=None, ge=1, le=65535, description="Port of the API and page; free if absent.")
    prefect_port: int | None = Field(
        default=None, ge=1, le=65535, description="Port of the embedded Prefect server; free if absent."
    )
    public_url: str | None = Field(
        default=None, description="Address under which browsers reach the API, if not the one they ask."
    )
    frontend_origin: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Origins, separated by commas, whose pages may call the API (CORS, with credentials)."
    )

    # What may be fetched
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Hosts beside YouTube, separated by commas, from which links are fetched; "
        "a private address only if named literally.",
    )
    max_minutes: float = Field(default=15.0, gt=0, description="Longest song accepted, in minutes.")
    max_megabytes: int = Field(default=500, gt=0, description="Largest file fetched or uploaded, in MB.")
    youtube_cookies_content: SecretStr | None = Field(
        default=None, description="YouTube cookies as the text of a Netscape cookies file."
    )
    youtube_cookies_b64: SecretStr | None = Field(default=None, description="The same, base64-encoded.")
    pot_provider_url: str | None = Field(
        default=None,
        description="Address of a bgutil PO-token provider, as http://127.0.0.1:4416; needs the extra pot.",
    )
    fetch_on_modal: bool = Field(
        default=False, description="Whether Modal fetches what YouTube refuses to this machine's address."
    )
    downloads_per_egress: int = Field(
        default=2, gt=0, description="Downloads at a time from one address; afterwards Prefect's limit youtube-… says."
    )
    batch_pause: NotNegative = Field(
        default=12.0, description="Seconds between two YouTube songs of a batch, after its first 20: 300 songs an hour."
    )
    egress: str = Field(
        default="here", min_length=1, description="Name of the address that YouTube sees this machine at."
    )

    # Engines
    groq_api_key: SecretStr | None = Field(default=None, description="Transcribe on Groq.")
    openai_api_key: SecretStr | None = Field(default=None, description="Transcribe on OpenAI.")
    modal_token_id: SecretStr | None = Field(default=None, description="Run the GPU stage on Modal.")
    modal_token_secret: SecretStr | None = Field(default=None, description="Modal's token secret.")
    runpod_api_key: SecretStr | None = Field(default=None, description="Run the GPU stage on RunPod.")
    runpod_endpoint_id: str | None = Field(default=None, description="RunPod's serverless endpoint.")
    runpod_url: str = Field(default="https://api.runpod.ai/v2", description="RunPod's API.")
    modal_app: str = Field(default="yt-lyrics", description="Name of the Modal app.")
    groq_base_url: str = Field(default="https://api.groq.com", description="Groq's API.")
    groq_megabytes: float = Field(default=25.0, gt=0, description="Largest file that Groq takes: 25 MB, 100 if paid.")
    groq_seconds_an_hour: float | None = Field(
        default=7200.0, gt=0, description="Seconds of audio that Groq takes in an hour; never is no limit."
    )
    groq_seconds_a_day: float | None = Field(
        default=28800.0, gt=0, description="Seconds of audio that Groq takes in a day; never is no limit."
    )
    openai_base_url: str = Field(
        default="https://api.openai.com/v1", description="OpenAI's API, or one that speaks like it."
    )
    openai_seconds_a_day: float | None = Field(
        default=None, gt=0, description="Seconds of audio sent to OpenAI in a day; never, the default, is no limit."
    )
    demucs_model: str = Field(default="htdemucs", description="Demucs model that separates voice from music.")
    demucs_repo: Path | None = Field(
        default=None, description="Folder with Demucs checkpoints (NAME.th, or NAME.yaml), instead of the hub."
    )
    demucs_precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="Number format of Demucs; auto is half of float32's where the device has it."
    )
    cpu_separation_minutes: float = Field(
        default=10.0, ge=0, description="Longest song whose voice is separated without a GPU; 0 separates none there."
    )
    align_repo: Path | None = Field(
        default=None, description="Folder with an alignment model for each language (en, de, …), instead of the hub."
    )
    lrclib: bool = Field(
        default=False, description="Whether lyrics are looked up at LRCLIB, by artist and title, where none are given."
    )
    lrclib_url: str = Field(default="https://lrclib.net", description="LRCLIB's API.")
    whisper_model: str | None = Field(
        default=None, description="Local whisper model by name or folder, instead of the preset's choice."
    )
    cpu_threads: int = Field(default=0, ge=0, description="Threads for a model on the CPU; 0 takes every core.")

    # Who does the GPU stage
    providers: Annotated[tuple[Provider, ...], NoDecode] = Field(
        default=(),
        description="Providers that may do the GPU stage, separated by commas: cuda, cpu, modal, runpod; "
        "if absent cuda, and modal and runpod where their keys are given.",
    )
    prices: Annotated[dict[Provider, NotNegative], NoDecode] = Field(
        default=PRICES,
        description="Dollars for an hour of each provider's GPU, as modal=1.10,runpod=0.79; the others keep theirs.",
    )
    dollar_seconds: NotNegative = Field(
        default=3600.0, description="How many seconds of waiting one dollar is worth, when a provider is chosen."
    )

    # What happens by itself
    nightly_minutes: float = Field(
        default=120.0, ge=0, description="Most minutes of audio that are made anew in one night."
    )
    nightly_dollars: float = Field(default=1.0, ge=0, description="Most dollars that this may cost in one night.")
    poor_quality: float = Field(
        default=0.5, ge=0, le=1, description="Songs of a lower quality (0 to 1) are made anew at night."
    )
    keep_audio_days: float | None = Field(
        default=90.0, gt=0, description="Days that kept audio which nobody uses stays; never deletes none."
    )
    max_audio_gb: float | None = Field(
        default=50.0,
        gt=0,
        description="Most GB of audio kept on this machine; what was not used for longest goes; never is no limit.",
    )
    keep_runs_days: float = Field(default=30.0, gt=0, description="Days that ended runs stay in Prefect.")

    @field_validator("frontend_origin", "allowed_hosts", "providers", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("prices", mode="before")
    @classmethod
    def _read_prices(cls, value: Any) -> Any:
        """Over the default prices, so that one may be told alone."""
        if isinstance(value, str):
            value = dict(_price(part) for part in value.split(",") if part.strip())
        return {**PRICES, **cast("Mapping[Provider, float]", value)} if isinstance(value, Mapping) else value

    @field_validator(
        "keep_audio_days",
        "max_audio_gb",
        "groq_seconds_an_hour",
        "groq_seconds_a_day",
        "openai_seconds_a_day",
        mode="before",
    )
    @classmethod
    def _read_never(cls, value: Any) -> Any:
        return None if value == NEVER else value

    @property
    def routes(self) -> tuple[Provider, ...]:
        """The providers among which songs are routed."""
        if self.providers:
            return tuple(dict.fromkeys(self.providers))
        modal = self.modal_token_id and self.modal_token_secret
        runpod = self.runpod_api_key and self.runpod_endpoint_id
        return (Provider.CUDA, *([Provider.MODAL] if modal else []), *([Provider.RUNPOD] if runpod else []))

    @property
    def data(self) -> Path:
        return self.yt_lyrics_data.expanduser().absolute()

    @property
    def prefect_headers(self) -> dict[str, str]:
        """What each call of a Prefect server that asks for a key must carry."""
        key = self.prefect_api_key
        return {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}

    @property
    def max_seconds(self) -> float:
        return self.max_minutes * 60

    def environment(self) -> dict[str, str]:
        """These settings as the environment of a child process that does not see our `.env`."""
        environment: dict[str, str] = {}
        for name, value in self:
            text = _written(value)
            if text is None and Settings.model_fields[name].default is not None:
                text = NEVER
            if text:
                environment[name.upper()] = text
        return environment


def _price(text: str) -> tuple[str, str]:
    provider, equals, dollars = (part.strip() for part in text.partition("="))
    if not equals:
        raise ValueError(f'"{text.strip()}" is not a provider and its price, such as modal=1.10')
    return provider, dollars


def _written(value: Any) -> str | None:
    """A setting as its variable holds it."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(cast("tuple[str, ...]", value))
    if isinstance(value, dict):
        return ",".join(f"{name}={part}" for name, part in cast("dict[str, float]", value).items())
    return None if value is None else str(value)


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name, *inside = (str(part) for part in first["loc"])
        where = f"{' '.join(inside)}: " if inside else ""
        message = first["msg"].removeprefix("Value error, ")
        raise BadRequest(what=f"The setting {name.upper()} is wrong: {where}{message}.") from None
    except UnicodeDecodeError:
        raise BadRequest(what="The file .env is not UTF-8 text.") from None
