"""A yt-dlp plugin: YouTube's playlists and channels, as the loopback server named in FAKE_YOUTUBE holds them.

Only what goes over the network is replaced: calls of YouTube's API go to `/youtubei/`, web pages are not asked for. How
yt-dlp finds a list behind an address, reads its pages and tells its alerts is its own. Without FAKE_YOUTUBE nothing
changes.
"""

import json
import os

from yt_dlp.extractor.youtube import YoutubeTabIE


class FakeYoutubeTabIE(YoutubeTabIE, plugin_name="fake"):
    @property
    def skip_webpage(self):
        return True if os.environ.get("FAKE_YOUTUBE") else super().skip_webpage

    def _call_api(self, ep, query, video_id, *args, **kwargs):
        if not (server := os.environ.get("FAKE_YOUTUBE")):
            return super()._call_api(ep, query, video_id, *args, **kwargs)
        # As the original: any status but success is raised, and the page's number goes into the message.
        return self._download_json(
            f"{server}/youtubei/{ep}",
            video_id,
            note=kwargs.get("note"),
            errnote="Unable to download API page",
            query={"asked": json.dumps(query)},
        )
