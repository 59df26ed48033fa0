"""Everything that can be configured, read from the environment and from `.env`.

Secrets are `SecretStr`: they appear in no log, repr, error or Prefect parameter.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any

import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from infra.errors import BadRequest


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
        description="cloudinary://KEY:SECRET@CLOUD; results go there instead of the data folder. Not used yet.",
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

    # Engines
    groq_api_key: SecretStr | None = Field(default=None, description="Transcribe on Groq. Not used yet.")
    openai_api_key: SecretStr | None = Field(default=None, description="Transcribe on OpenAI. Not used yet.")
    modal_token_id: SecretStr | None = Field(default=None, description="Run the GPU stage on Modal. Not used yet.")
    modal_token_secret: SecretStr | None = Field(default=None, description="Modal's token secret. Not used yet.")
    runpod_api_key: SecretStr | None = Field(default=None, description="Run the GPU stage on RunPod. Not used yet.")
    runpod_endpoint_id: str | None = Field(default=None, description="RunPod's serverless endpoint. Not used yet.")
    demucs_model: str = Field(
        default="htdemucs", description="Demucs model that separates voice from music. Not used yet."
    )
    whisper_model: str | None = Field(
        default=None, description="Whisper model by name or folder, instead of the preset's choice."
    )
    cpu_threads: int = Field(default=0, ge=0, description="Threads for a model on the CPU; 0 takes every core.")

    @field_validator("frontend_origin", "allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @property
    def data(self) -> Path:
        return self.yt_lyrics_data.expanduser().absolute()

    @property
    def max_seconds(self) -> float:
        return self.max_minutes * 60

    def environment(self) -> dict[str, str]:
        """These settings as the environment of a child process that does not see our `.env`."""
        environment: dict[str, str] = {}
        for name, value in self:
            if value is None or value == ():
                continue
            if isinstance(value, SecretStr):
                value = value.get_secret_value()
            elif isinstance(value, tuple):
                value = ",".join(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            environment[name.upper()] = str(value)
        return environment


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]).upper()
        raise BadRequest(what=f"The setting {name} is wrong: {first['msg']}.") from None
    except UnicodeDecodeError:
        raise BadRequest(what="The file .env is not UTF-8 text.") from None
