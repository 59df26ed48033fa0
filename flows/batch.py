"""A playlist, or many links, to a row for each song; their runs are started, not waited for."""

from __future__ import annotations

from prefect import flow, task
from prefect.runtime import flow_run

from flows.egress import is_worth_another_try
from flows.job import RETRYING
from infra import links
from infra.database import connection
from infra.errors import AddressLimited, NotAPlaylist, RateLimited, SiteLimitsUs, TakenOver, TooManyLinks, told
from infra.jobs import batches, breakers, listing
from infra.jobs.admission import Fate, Wanted
from infra.jobs.batches import MOST, Batch
from infra.jobs.pulse import beating
from infra.jobs.request import Preset, Request
from infra.links import Collection
from infra.settings import settings
from tasks import wanted
from tasks.download.ladder import RATE_LIMIT
from tasks.playlist import Playlist, listed


@task(name="list", retry_condition_fn=is_worth_another_try, **RETRYING)
def list_task(collection: Collection, most: int) -> Playlist:
    return listed_from_here(collection, most)


@flow(name="batch", flow_run_name="batch {playlist}{batch}", retries=0)
async def batch(
    playlist: str = "",
    links: list[str] | None = None,
    preset: Preset = Preset.REGULAR,
    language: str = "",
    batch: str = "",
    attempt: int = 1,
) -> None:
    """Make a job for each song of a playlist or of many links, and start their runs.

    Args:
        playlist: The link of a YouTube playlist, album or channel; of a long one the first 500 songs are made.
        links: Up to 500 links, one song each, instead of a playlist.
        preset: low is fastest, high is best.
        language: The language that is sung, as en, es, ja …; heard from each song if left empty.
        batch: An existing batch, whose own playlist and options are used. Left empty, the run makes one of its own.
        attempt: Which of the attempts at listing that batch this run does.
    """
    id = str(flow_run.id)
    if not batch and links:
        of_links(id, links, Request(link="-", preset=preset, language=language or None))
        return
    if not batch:
        of_playlist(id, Request(link=playlist or "-", preset=preset, language=language or None))
    list_songs(listing.claim(batch or id, attempt, id))


def of_links(id: str, texts: list[str], asked: Request) -> None:
    if len(texts) > MOST:
        raise TooManyLinks(count=len(texts), limit=MOST)
    songs = wanted.of_texts(texts, lambda link: asked.but(link=link), id)
    with connection() as conn, conn.transaction():
        fates = batches.of_links(conn, id, asked, songs.wanted)
    start(songs.wanted, fates)


def of_playlist(id: str, asked: Request) -> None:
    """The row of a run that was started in Prefect itself. The run asked again finds the same row."""
    found = links.collection(asked.link)
    if found is None:
        raise NotAPlaylist
    with connection() as conn:
        batches.of_playlist(conn, id, asked.but(link=found.url), run=id)


def list_songs(claimed: Batch) -> None:
    """An error that ends this ends the batch with its sentence."""
    try:
        with beating(lambda: listing.beat(claimed)):
            found = list_task(collection_of(claimed), MOST)
            songs = wanted.of_links(found.links, claimed.request, claimed.id)
            fates = listing.listed(claimed, songs.wanted, title=found.title, message=about(found))
    except TakenOver:
        raise
    except Exception as error:
        if isinstance(error, SiteLimitsUs) and come_back(claimed):
            return
        listing.fail(claimed, told(error))
        raise
    start(songs.wanted, fates)


def listed_from_here(collection: Collection, most: int) -> Playlist:
    """A limit that YouTube puts on this address is one on lists, too."""
    egress = settings().egress
    if closed := breakers.closed([egress]):
        raise AddressLimited(until=breakers.clock(closed.until))
    try:
        return listed(collection, most)
    except RateLimited as error:
        breakers.trip(egress, error.fields["reason"], RATE_LIMIT)
        raise


def come_back(claimed: Batch) -> bool:
    at = breakers.come_back_at([settings().egress], claimed.created_at)
    if at is not None:
        listing.postpone(claimed, at)
    return at is not None


def collection_of(claimed: Batch) -> Collection:
    found = links.collection(claimed.link or "")
    if found is None:
        raise NotAPlaylist
    return found


def about(found: Playlist) -> str:
    """What a user should know of a list that is not made as a whole."""
    longer = f"It is longer: these are the first {len(found.links)}." if found.more else ""
    left_out = f"{found.left_out} private, deleted or live ones are left out." if found.left_out else ""
    return " ".join(filter(None, (longer, left_out)))


def start(songs: tuple[Wanted, ...], fates: dict[str, Fate]) -> None:
    batches.start((song.id, 1) for song in songs if fates.get(song.id) is Fate.BEGINS)
