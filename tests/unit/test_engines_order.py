"""Who is asked for a song's words, and who comes after."""

from __future__ import annotations

from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import BadRequest, TranscriberRefused
from infra.jobs.request import EngineName, Preset, Request
from tasks.transcribe import ENGINES, groq, openai
from tasks.transcribe.order import Choice, order

OFFERS = {EngineName.GROQ: groq.OFFER, EngineName.OPENAI: openai.OFFER}
HOSTED = [(engine, model) for engine, offer in OFFERS.items() for model in offer.names]
BOTH = tuple(OFFERS)
HERE, TURBO, LARGE = "faster-whisper", "Groq whisper-large-v3-turbo", "Groq whisper-large-v3"
MINI, WHISPER, GPT = "OpenAI gpt-4o-mini-transcribe", "OpenAI whisper-1", "OpenAI gpt-4o-transcribe"

TABLE = [  # preset, GPU, keys → who is asked
    ("low", False, BOTH, [TURBO, HERE, MINI]),
    ("low", True, BOTH, [TURBO, HERE, MINI]),
    ("regular", False, BOTH, [TURBO, WHISPER, HERE]),
    ("regular", True, BOTH, [TURBO, HERE, WHISPER]),
    ("high", False, BOTH, [LARGE, GPT, HERE]),
    ("high", True, BOTH, [LARGE, HERE, GPT]),
    ("regular", False, (EngineName.GROQ,), [TURBO, HERE]),
    ("regular", False, (EngineName.OPENAI,), [WHISPER, HERE]),
    ("high", True, (), [HERE]),
]

requests = st.builds(
    Request,
    link=st.just("-"),
    preset=st.sampled_from(Preset),
    engine=st.none() | st.sampled_from(EngineName),
    model=st.none() | st.sampled_from([model for _, model in HOSTED] + ["base", "large-v3"]),
)
some_keys = st.sets(st.sampled_from(BOTH))


def labels(choices: tuple[Choice, ...]) -> list[str]:
    return [choice.label for choice in choices]


def asked(keys: tuple[EngineName, ...] = BOTH, *, gpu: bool = False, **wishes: str) -> list[str]:
    return labels(order(Request(link="-", **wishes), OFFERS, keys, gpu=gpu))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("preset", "gpu", "keys", "engines"), TABLE)
def test_a_preset_has_its_order(preset: str, gpu: bool, keys: tuple[EngineName, ...], engines: list[str]) -> None:
    assert asked(keys, gpu=gpu, preset=preset) == engines


def test_the_engine_on_this_machine_is_asked_alone() -> None:
    assert asked(engine="faster-whisper") == [HERE]


@pytest.mark.parametrize(("engine", "first"), [("groq", TURBO), ("openai", WHISPER)])
def test_an_engine_that_is_named_comes_first_and_no_other_is_paid(engine: str, first: str) -> None:
    assert asked(engine=engine) == [first, HERE]


@pytest.mark.parametrize(("engine", "model"), HOSTED)
def test_a_model_that_is_named_is_that_one(engine: EngineName, model: str) -> None:
    for wishes in ({}, {"engine": engine}):
        (choice,) = order(Request(link="-", model=model, **wishes), OFFERS, BOTH, gpu=True)  # pyright: ignore
        assert (choice.engine, choice.model) == (engine, model)


def test_any_other_model_is_this_machines() -> None:
    assert asked(model="large-v3") == ["faster-whisper large-v3"]
    assert asked(model="/models/mine", engine="faster-whisper") == ["faster-whisper /models/mine"]


@pytest.mark.parametrize(
    ("engine", "model", "sentence"),
    [
        ("groq", "whisper-1", 'Groq has no model "whisper-1": it has whisper-large-v3-turbo, whisper-large-v3.'),
        ("openai", "base", 'OpenAI has no model "base": it has gpt-4o-mini-transcribe, whisper-1, gpt-4o-transcribe.'),
        ("faster-whisper", "whisper-1", 'faster-whisper has no model "whisper-1": that is one of OpenAI.'),
    ],
)
def test_an_engine_and_anothers_model_are_one_sentence(engine: str, model: str, sentence: str) -> None:
    with pytest.raises(BadRequest) as error:
        asked(engine=engine, model=model)
    assert str(error.value) == sentence


@pytest.mark.parametrize("wishes", [{"engine": "groq"}, {"model": "whisper-large-v3"}])
def test_a_key_that_is_missing_is_named(wishes: dict[str, str]) -> None:
    with pytest.raises(TranscriberRefused) as error:
        asked((EngineName.OPENAI,), **wishes)
    assert str(error.value) == "Groq cannot transcribe this: GROQ_API_KEY is not set."


@given(requests, some_keys, st.booleans())
def test_nothing_is_sent_without_a_key_or_against_the_users_word(
    request: Request, keys: set[EngineName], gpu: bool
) -> None:
    try:
        choices = order(request, OFFERS, keys, gpu=gpu)
    except (BadRequest, TranscriberRefused):
        assert request.engine is not None or request.model is not None
        return
    engines = [choice.engine for choice in choices]
    assert len(set(engines)) == len(engines) > 0
    assert set(engines) <= {EngineName.WHISPER, *keys}
    if request.engine is not None:
        assert engines[0] is request.engine
        assert set(engines) <= {request.engine, EngineName.WHISPER}
    if request.model is not None:
        assert [choice.model for choice in choices] == [request.model]
    elif request.engine is None:
        assert set(engines) == {EngineName.WHISPER, *keys}
    assert all(choice.model in OFFERS[choice.engine].names for choice in choices if choice.engine in OFFERS)


@pytest.mark.parametrize("engine", list(EngineName))
def test_every_engine_that_can_be_asked_for_is_a_file(engine: EngineName) -> None:
    assert callable(import_module(ENGINES[engine]).ready)


@pytest.mark.parametrize("offer", OFFERS.values(), ids=lambda offer: offer.label)
def test_every_hosted_engine_has_a_model_for_every_preset(offer: object) -> None:
    assert set(offer.models) == set(Preset)  # pyright: ignore[reportAttributeAccessIssue]
