"""The ways to a video's sound, as data: who asks YouTube for it, and from which address."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from infra.settings import Settings
from tasks.download.cookies import cookies

Means = Literal["ytdlp", "modal", "pool"]

HERE = "here"

# Players whose sound yt-dlp's table (INNERTUBE_CLIENTS) gives out without a PO token, as it does that of its own choice
# for strangers (visionos); yt-dlp itself falls back on these two. Not tv: to strangers all of its formats carry DRM.
# Not android_vr: its sound is refused since August 2026. Not web_safari: its only sound is HLS, with the picture in it.
OTHER_CLIENTS = ("web_embedded", "tv_downgraded")
TOKEN_CLIENTS = ("mweb",)  # the one that yt-dlp's wiki advises to give a token; web's sound needs more than a token

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Route:
    name: str  # as the job's steps and /health show it
    egress: str  # whom YouTube sees; breakers and concurrency limits go by it; empty: nobody counts
    clients: tuple[str, ...] = ()  # yt-dlp's player clients; its own choice if empty
    po_tokens: bool = False
    signed_in: bool = False
    means: Means = "ytdlp"

    @property
    def place(self) -> str:
        """The egress without who asks from there: what a country or a broken line goes by."""
        return self.egress.partition(",")[0]

    @property
    def breakers(self) -> tuple[str, ...]:
        """The egress's and the route's own."""
        return (self.egress, f"{self.egress}: {self.name}") if self.egress else ()


DIRECTLY = (Route("directly", egress=""),)  # the ladder of links that do not lead to YouTube
AS_ANYBODY = Route("as anybody", egress=HERE)


def ladder(settings: Settings, at: str | None = None) -> tuple[Route, ...]:
    """The routes to YouTube from this machine, the first to try first; `at` names its egress, EGRESS if not given.

    A worker elsewhere (the pool `download`) is a route that the flow adds.
    """
    at = at or settings.egress
    routes = [Route("as anybody", at), Route("other clients", at, OTHER_CLIENTS)]
    if settings.pot_provider_url and tokens_problem(settings) is None:
        routes.append(Route("PO tokens", at, TOKEN_CLIENTS, po_tokens=True))
    given = cookies(settings)
    if given is not None and given.problem is None:
        # By their digest: a limit on these cookies is none on the next.
        routes.append(Route("cookies", f"{at}, signed in {given.digest}", signed_in=True))
    if settings.fetch_on_modal and settings.modal_token_id and settings.modal_token_secret:
        routes.append(Route("Modal", "Modal", means="modal"))
    return tuple(routes)


def tokens_problem(settings: Settings) -> str | None:
    """Why the PO tokens that are asked for cannot be had, as a sentence."""
    if settings.pot_provider_url and find_spec("yt_dlp_plugins.extractor.getpot_bgutil_http") is None:
        return "POT_PROVIDER_URL is set, but the package bgutil-ytdlp-pot-provider is missing: install the extra pot."
    return None
