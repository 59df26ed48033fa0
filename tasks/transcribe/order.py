"""Which engines hear a song: one after the other, until one gives its words."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from infra.errors import BadRequest, TranscriberRefused
from infra.jobs.request import EngineName, Preset, Request


@dataclass(frozen=True, slots=True)
class Offer:
    """What somebody else's engine offers. Every other engine works on this machine, for nothing."""

    label: str  # as users read it
    key: str  # the setting without which it cannot be asked
    models: Mapping[Preset, str]  # which of its models a preset means
    others: tuple[str, ...] = ()  # that can be named, too
    dear: bool = False  # costs so much that a machine which is quick enough is asked first

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.models.values(), *self.others)))


@dataclass(frozen=True, slots=True)
class Choice:
    engine: EngineName
    label: str  # as users read it
    model: str | None = None  # None: what the preset or the operator says, see tasks/models


HERE = Choice(EngineName.WHISPER, EngineName.WHISPER.value)

Offers = Mapping[EngineName, Offer]


def order(request: Request, offers: Offers, keys: Collection[EngineName], *, gpu: bool) -> tuple[Choice, ...]:
    """The engines to ask, the first one first. What the user names is heeded; a named model is that one or an error.

    Otherwise: who costs next to nothing, then this machine, then who is dear. Without a GPU this machine comes last,
    but where speed is all: its small models are quick on any machine.
    """
    if request.model is not None:
        return (_named(request, request.model, offers, keys),)
    if request.engine is not None and request.engine not in offers:
        return (Choice(request.engine, request.engine.value),)
    if request.engine is not None:
        _check_key(request.engine, offers, keys)
        return (_choice(request.engine, offers, request.preset), HERE)
    hosted = [engine for engine in offers if engine in keys]
    cheap = [_choice(engine, offers, request.preset) for engine in hosted if not offers[engine].dear]
    dear = [_choice(engine, offers, request.preset) for engine in hosted if offers[engine].dear]
    return (*cheap, HERE, *dear) if gpu or request.preset is Preset.LOW else (*cheap, *dear, HERE)


def _choice(engine: EngineName, offers: Offers, preset: Preset) -> Choice:
    model = offers[engine].models[preset]
    return Choice(engine, f"{offers[engine].label} {model}", model)


def _named(request: Request, model: str, offers: Offers, keys: Collection[EngineName]) -> Choice:
    owner = next((engine for engine, offer in offers.items() if model in offer.names), EngineName.WHISPER)
    if request.engine not in (None, owner):
        raise BadRequest(what=_not_its_model(model, request.engine, owner, offers))
    if owner not in offers:
        return Choice(owner, f"{owner} {model}", model)
    _check_key(owner, offers, keys)
    return Choice(owner, f"{offers[owner].label} {model}", model)


def _not_its_model(model: str, asked: EngineName, owner: EngineName, offers: Offers) -> str:
    if asked in offers:
        return f'{offers[asked].label} has no model "{model}": it has {", ".join(offers[asked].names)}.'
    return f'{asked} has no model "{model}": that is one of {offers[owner].label}.'


def _check_key(engine: EngineName, offers: Offers, keys: Collection[EngineName]) -> None:
    if engine not in keys:
        raise TranscriberRefused(engine=offers[engine].label, reason=f"{offers[engine].key.upper()} is not set")
