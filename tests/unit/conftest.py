"""What several suites without a process need."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.song import Audio


@pytest.fixture
def audio(tmp_path: Path) -> Audio:
    path = tmp_path / "audio.opus"
    path.write_bytes(b"sound of a song")
    return Audio(path, 3.0, title="Harbor Light", artist="Nobody", video_id="abc")
