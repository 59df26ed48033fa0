"""Settings: read from the environment and `.env`, told in sentences, and silent about secrets."""

from __future__ import annotations

import json
import logging
import os
import traceback
from collections.abc import Generator
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as tried
from hypothesis import strategies as st
from pydantic import SecretStr

from infra import settings as configuration
from infra.errors import BadRequest
from infra.jobs.request import Provider
from infra.settings import PRICES, Settings

FIELDS = Settings.model_fields
SECRETS = sorted(name for name, field in FIELDS.items() if SecretStr in (field.annotation, *get_args(field.annotation)))
CONTRACT = {
    "DATABASE_URL",
    "CLOUDINARY_URL",
    "GROQ_API_KEY",
    "OPENAI_API_KEY",
    "MODAL_TOKEN_ID",
    "MODAL_TOKEN_SECRET",
    "RUNPOD_API_KEY",
    "RUNPOD_ENDPOINT_ID",
    "YOUTUBE_COOKIES_CONTENT",
    "YOUTUBE_COOKIES_B64",
    "DEMUCS_MODEL",
    "FRONTEND_ORIGIN",
    "PORT",
}

# What an environment can hold: any text without NUL that is not empty.
words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=20)
hosts = st.lists(st.from_regex(r"[a-z0-9:/.\[\]-]+", fullmatch=True), max_size=3).map(tuple)
markers = st.text("abcdefghijklmnopqrstuvwxyz0123456789+/=@:%", min_size=16, max_size=40).map(lambda text: f"K{text}K")


finite = st.floats(0, allow_infinity=False)
OF_THEIR_OWN: dict[str, st.SearchStrategy[Any]] = {
    "providers": st.lists(st.sampled_from(Provider), max_size=4).map(tuple),
    "prices": st.dictionaries(st.sampled_from(Provider), finite),
    "poor_quality": st.floats(0, 1),
    "dollar_seconds": finite,
    "batch_pause": finite,
    "fetch_on_modal": st.booleans(),
    "lrclib": st.booleans(),
    "demucs_precision": st.sampled_from(get_args(FIELDS["demucs_precision"].annotation)),
    "keep_audio_days": st.none() | st.floats(0, exclude_min=True),
}


def values(name: str) -> st.SearchStrategy[Any]:
    if name in OF_THEIR_OWN:
        return OF_THEIR_OWN[name]
    annotation: Any = FIELDS[name].annotation
    kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    if name in SECRETS:
        return words.map(SecretStr)
    if Path in kinds:
        return st.from_regex(r"(/|~/|)[A-Za-z0-9 _äß.-]{1,20}", fullmatch=True).map(Path)
    if int in kinds:
        return st.integers(1, 65535)
    if float in kinds:
        return st.floats(min_value=0, exclude_min=True, allow_nan=False)
    return words if str in kinds else hosts


any_settings = st.fixed_dictionaries({}, optional={name: values(name) for name in FIELDS})


def bare(patch: pytest.MonkeyPatch) -> None:
    """An environment that sets nothing of ours."""
    for name in list(os.environ):
        if name.lower() in FIELDS:
            patch.delenv(name)


@pytest.fixture(autouse=True)
def _nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    bare(monkeypatch)
    monkeypatch.chdir(tmp_path)
    configuration.settings.cache_clear()
    yield
    configuration.settings.cache_clear()


def test_without_an_environment_everything_is_embedded() -> None:
    plain = configuration.settings()
    assert plain.database_url is None
    assert plain.prefect_api_url is None
    assert plain.data.is_absolute()
    assert plain.max_seconds == 900
    assert configuration.settings() is plain


def test_every_variable_of_the_contract_is_a_setting() -> None:
    assert {name.upper() for name in FIELDS} >= CONTRACT


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_has_a_description(name: str) -> None:
    description = FIELDS[name].description
    assert description
    assert description.endswith(".")


@pytest.mark.parametrize("name", FIELDS)
def test_what_sounds_like_a_secret_is_one(name: str) -> None:
    telling = ("_key", "_token", "secret", "password", "cookies", "database_url", "cloudinary_url")
    assert (name in SECRETS) == any(part in name for part in telling)


@given(st.fixed_dictionaries(dict.fromkeys(SECRETS, markers)))
@tried(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_secret_shows_nowhere(caplog: pytest.LogCaptureFixture, secrets: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, secret in secrets.items():
            patch.setenv(name.upper(), secret)
        ours = Settings()
        assert {name: getattr(ours, name).get_secret_value() for name in SECRETS} == secrets
        caplog.clear()
        logging.getLogger("test").warning("%s %r", ours, ours)
        shown = [repr(ours), str(ours), f"{ours}", ours.model_dump_json(), str(ours.model_dump()), caplog.text]
        shown += [str(dict(ours)), json.dumps(ours.model_dump(mode="json")), str(vars(ours)), str(list(ours))]

        patch.setenv("PORT", "not a port")
        configuration.settings.cache_clear()
        with pytest.raises(BadRequest) as caught:
            configuration.settings()
        error = caught.value
        shown += [str(error), repr(error), str(error.fields), "".join(traceback.format_exception(error))]
        shown += [str(error.__context__), repr(error.__context__)]
    for text in shown:
        assert not [name for name, secret in secrets.items() if secret in text]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_that_is_not_even_text_shows_in_no_error(name: str) -> None:
    with pytest.raises(ValueError, match=name) as caught:
        Settings.model_validate({name: ["marker"]})
    assert "marker" not in str(caught.value)
    assert "marker" not in repr(caught.value)


def test_a_dotenv_file_is_read_and_the_environment_has_the_last_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(
        "# ours\nPORT=8080\nGROQ_API_KEY='gsk=1#2'\nFRONTEND_ORIGIN=https://a.example, https://b.example\n"
        "SOMETHING_ELSE=1\nOPENAI_API_KEY=\nDEMUCS_MODEL=from-the-file\n"
    )
    monkeypatch.setenv("DEMUCS_MODEL", "from-the-environment")
    read = configuration.settings()
    assert read.port == 8080
    assert read.groq_api_key is not None
    assert read.groq_api_key.get_secret_value() == "gsk=1#2"
    assert read.frontend_origin == ("https://a.example", "https://b.example")
    assert read.openai_api_key is None
    assert read.demucs_model == "from-the-environment"


@pytest.mark.parametrize("name", ["FRONTEND_ORIGIN", "ALLOWED_HOSTS"])
@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a.example", ("a.example",)),
        (" a.example ,b.example:8080,, ", ("a.example", "b.example:8080")),
        (" , ", ()),
        ("", ()),
    ],
)
def test_lists_are_split_at_their_commas(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, parts: tuple[str, ...]
) -> None:
    monkeypatch.setenv(name, text)
    assert getattr(Settings(), name.lower()) == parts


def test_prices_that_are_told_stand_beside_the_ones_that_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRICES", " modal = 2.5, cuda=0.1,")
    assert Settings().prices == {**PRICES, Provider.MODAL: 2.5, Provider.CUDA: 0.1}
    monkeypatch.delenv("PRICES")
    assert Settings().prices == PRICES
    assert set(PRICES) == set(Provider)


def test_songs_are_routed_to_whom_there_are_keys_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().routes == (Provider.CUDA,)
    monkeypatch.setenv("RUNPOD_API_KEY", "key")
    monkeypatch.setenv("MODAL_TOKEN_ID", "id")
    assert Settings().routes == (Provider.CUDA,)
    monkeypatch.setenv("RUNPOD_ENDPOINT_ID", "endpoint")
    assert Settings().routes == (Provider.CUDA, Provider.RUNPOD)
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "secret")
    assert Settings().routes == (Provider.CUDA, Provider.MODAL, Provider.RUNPOD)


def test_the_providers_that_are_named_are_the_routes_whatever_keys_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVIDERS", "cpu, runpod,cpu")
    assert Settings().routes == (Provider.CPU, Provider.RUNPOD)


def test_kept_audio_can_be_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().keep_audio_days == 90
    monkeypatch.setenv("KEEP_AUDIO_DAYS", "never")
    assert Settings().keep_audio_days is None


@pytest.mark.parametrize("name", FIELDS)
def test_an_empty_variable_counts_as_absent(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    plain = Settings()
    monkeypatch.setenv(name.upper(), "")
    assert Settings() == plain


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "0"),
        ("PORT", "70000"),
        ("PREFECT_PORT", "-1"),
        ("MAX_MINUTES", "0"),
        ("MAX_MINUTES", "nan"),
        ("MAX_MINUTES", "a quarter"),
        ("MAX_MEGABYTES", "0.5"),
        ("CPU_THREADS", "-2"),
        ("PROVIDERS", "cuda,aws"),
        ("PRICES", "modal"),
        ("PRICES", "modal=1,=2"),
        ("PRICES", "modal=cheap"),
        ("PRICES", "aws=1"),
        ("PRICES", "modal=-1"),
        ("PRICES", "modal=nan"),
        ("DOLLAR_SECONDS", "inf"),
        ("POOR_QUALITY", "1.1"),
        ("NIGHTLY_DOLLARS", "-1"),
        ("KEEP_AUDIO_DAYS", "0"),
        ("KEEP_AUDIO_DAYS", "always"),
    ],
)
def test_a_wrong_value_gives_one_sentence_that_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadRequest, match=rf"^The setting {name} is wrong: [^\n]+[^.]\.$"):
        configuration.settings()


@given(any_settings)
@tried(deadline=None)  # on a busy machine
def test_the_environment_for_a_child_process_gives_it_equal_settings(given_values: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        bare(patch)
        ours = Settings(**given_values)
        for name, value in ours.environment().items():
            patch.setenv(name, value)
        theirs = Settings()
        assert theirs == ours
        assert theirs.environment() == ours.environment()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]
