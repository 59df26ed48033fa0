"""Which provider does the GPU stage: the one that history says gives the song soonest for its money."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra.jobs import queries, table
from infra.jobs.request import Provider
from infra.settings import settings

# Seconds of work for a minute of audio, until a song was made there: a little better than what is to be expected, so
# that a new provider is tried once and then judged by what it did. Remote ones have their cold start on top.
PRIORS = {Provider.CUDA: 4.0, Provider.MODAL: 8.0, Provider.RUNPOD: 10.0, Provider.CPU: 20.0}
TYPICAL_MINUTES = 4.0  # of a song whose length nobody told
HOPELESS = 3  # runs, all of which failed: such a provider is chosen only where there is no other


@dataclass(frozen=True)
class Record:
    """What a provider did lately, and how many songs wait for it."""

    provider: Provider
    runs: int
    failed: int
    seconds_per_minute: float | None  # median; None until a song was made there
    waiting: int
    price: float  # dollars for an hour of its GPU

    @property
    def pace(self) -> float:
        return PRIORS[self.provider] if self.seconds_per_minute is None else self.seconds_per_minute

    @property
    def hopeless(self) -> bool:
        return self.runs >= HOPELESS and self.failed >= self.runs

    @property
    def tries(self) -> float:
        """How often a song is tried here until it succeeds. Few runs say little, so that a first failure is not all."""
        return (self.runs + 4) / (self.runs - self.failed + 3)


@dataclass(frozen=True)
class Pick:
    provider: Provider
    reason: str
    expected_seconds: float
    expected_cost: float


def records(providers: Sequence[Provider]) -> list[Record]:
    """What the history of runs says of these providers, in their order."""
    prices = settings().prices
    found = {row["provider"]: row for row in table.rows(queries.RECORDS, {"providers": list(providers)})}
    return [
        Record(
            provider=provider,
            runs=found[provider]["runs"],
            failed=found[provider]["failed"],
            seconds_per_minute=found[provider]["seconds_per_minute"],
            waiting=found[provider]["waiting"],
            price=prices.get(provider, 0.0),
        )
        for provider in providers
    ]


def choose(
    records: Sequence[Record], minutes: float, count: int = 1, *, dollar_seconds: float | None = None
) -> list[Pick]:
    """The best `count` of these providers for a song of so many minutes, best first; all of them if there are fewer.

    Waiting and money are weighed against each other by DOLLAR_SECONDS.
    """
    worth = settings().dollar_seconds if dollar_seconds is None else dollar_seconds
    minutes = minutes if minutes > 0 else TYPICAL_MINUTES
    order = list(Provider)

    def badness(record: Record) -> tuple[bool, float, int]:
        weighed = _seconds(record, minutes) + _cost(record, minutes) * worth
        return record.hopeless, weighed, order.index(record.provider)

    ranked = sorted(records, key=badness)
    return [
        Pick(
            record.provider,
            _reason(record, [other for other in ranked if other is not record], minutes),
            _seconds(record, minutes),
            _cost(record, minutes),
        )
        for record in ranked[:count]
    ]


def _seconds(record: Record, minutes: float) -> float:
    return (record.waiting + 1) * record.pace * minutes * record.tries


def _cost(record: Record, minutes: float) -> float:
    return record.price / 3600 * record.pace * minutes * record.tries


def _reason(record: Record, others: Sequence[Record], minutes: float) -> str:
    chosen = f"{record.provider}: about {_seconds(record, minutes):.0f} s ({_past(record)}), {_money(record, minutes)}"
    return "; ".join([chosen, *(_alternative(other, minutes) for other in others)])


def _alternative(record: Record, minutes: float) -> str:
    cost = "be free" if record.price == 0 else f"cost {_money(record, minutes)}"
    return f"{record.provider} would take {_seconds(record, minutes):.0f} s ({_past(record)}) and {cost}"


def _past(record: Record) -> str:
    pace = f"{'taken as ' if record.seconds_per_minute is None else ''}{record.pace:.3g} s a minute"
    if record.runs == 0:
        return f"no song yet, {pace}, {record.waiting} waiting"
    songs = f"{record.runs} song{'' if record.runs == 1 else 's'}"
    failed = "none" if record.failed == 0 else "all" if record.failed == record.runs else str(record.failed)
    return f"{pace} over {songs}, {failed} failed, {record.waiting} waiting"


def _money(record: Record, minutes: float) -> str:
    return "free" if record.price == 0 else f"${_cost(record, minutes):.3f}"
