"""A yt-dlp plugin: YouTube's player, as the loopback server named in FAKE_YOUTUBE plays it.

Only what goes over the network to youtube.com is replaced: the player responses come from `/video/ID.json`, the web
page, its data and the JavaScript player are absent. All else is yt-dlp itself: which clients it asks, when it is signed
in and when its cookies have gone stale, how it gets PO tokens, how it reads formats, live status and refusals out of a
player response, its wording, its downloader, its retries.
The server is told what YouTube would see: the client, the cookies for youtube.com, the address (FAKE_YOUTUBE_EGRESS).
Without FAKE_YOUTUBE nothing changes.
"""

import os

from yt_dlp.extractor.youtube import YoutubeIE


class FakeYoutubeIE(YoutubeIE, plugin_name="fake"):
    def _seen(self, client):
        cookies = self._downloader.cookiejar.get_cookie_header("https://www.youtube.com/")
        egress = os.environ.get("FAKE_YOUTUBE_EGRESS") or "here"
        return {"X-Client": client, "X-Egress": egress, **({"Cookie": cookies} if cookies else {})}

    def _extract_player_response(self, client, video_id, *args, **kwargs):
        if not (server := os.environ.get("FAKE_YOUTUBE")):
            return super()._extract_player_response(client, video_id, *args, **kwargs)
        # As the original: any status but success is raised, and reported by whoever calls this.
        return self._download_json(
            f"{server}/video/{video_id}.json",
            video_id,
            note=f"Downloading {client} player API JSON",
            errnote="Unable to download API page",
            headers=self._seen(client),
        )

    def _download_initial_webpage(self, webpage_url, webpage_client, video_id, *args, **kwargs):
        if not (server := os.environ.get("FAKE_YOUTUBE")):
            return super()._download_initial_webpage(webpage_url, webpage_client, video_id, *args, **kwargs)
        if self.is_authenticated:
            session = self._download_webpage(
                f"{server}/session/{video_id}", video_id, note=False, headers=self._seen(webpage_client)
            )
            if session == "rotated":  # YouTube's page takes this cookie away; loopback may not, it has another domain
                self._downloader.cookiejar.clear(".youtube.com", "/", "LOGIN_INFO")
        return None

    def _download_initial_data(self, *args, **kwargs):
        # What goes with the page: nothing that this server has to tell, but without it no chapters are looked for.
        known = {"responseContext": {}}
        return known if os.environ.get("FAKE_YOUTUBE") else super()._download_initial_data(*args, **kwargs)

    def _download_ytcfg(self, client, video_id):
        if not os.environ.get("FAKE_YOUTUBE"):
            return super()._download_ytcfg(client, video_id)
        return {**self._get_default_ytcfg(client), "VISITOR_DATA": f"who looks at {video_id}"}

    def _download_player_url(self, *args, **kwargs):
        return None if os.environ.get("FAKE_YOUTUBE") else super()._download_player_url(*args, **kwargs)
