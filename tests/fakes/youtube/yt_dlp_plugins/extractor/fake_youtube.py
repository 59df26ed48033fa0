"""A yt-dlp plugin: YouTube's player, as the loopback server named in FAKE_YOUTUBE plays it.

Only what goes over the network to youtube.com is replaced: the player responses come from `/video/ID.json`, the web
page, its data and the JavaScript player are absent. All else is yt-dlp itself: which clients it asks, how it reads
formats, live status and refusals out of a player response, its wording, its downloader, its retries.
Without FAKE_YOUTUBE nothing changes.
"""

import os

from yt_dlp.extractor.youtube import YoutubeIE


class FakeYoutubeIE(YoutubeIE, plugin_name="fake"):
    def _extract_player_response(self, client, video_id, *args, **kwargs):
        if not (server := os.environ.get("FAKE_YOUTUBE")):
            return super()._extract_player_response(client, video_id, *args, **kwargs)
        # As the original: any status but success is raised, and reported by whoever calls this.
        return self._download_json(
            f"{server}/video/{video_id}.json",
            video_id,
            note=f"Downloading {client} player API JSON",
            errnote="Unable to download API page",
        )

    def _download_initial_webpage(self, *args, **kwargs):
        return None if os.environ.get("FAKE_YOUTUBE") else super()._download_initial_webpage(*args, **kwargs)

    def _download_initial_data(self, *args, **kwargs):
        return None if os.environ.get("FAKE_YOUTUBE") else super()._download_initial_data(*args, **kwargs)

    def _download_ytcfg(self, *args, **kwargs):
        return {} if os.environ.get("FAKE_YOUTUBE") else super()._download_ytcfg(*args, **kwargs)

    def _download_player_url(self, *args, **kwargs):
        return None if os.environ.get("FAKE_YOUTUBE") else super()._download_player_url(*args, **kwargs)
