"""`tasks.gpu.sing`, called on somebody else's machine; and a video's sound, fetched where YouTube sees another address.

    wire.py     what travels: an order out, news and an answer back
    sound.py    the same of a video's sound
    work.py     the far side: an order done there
    call.py     our side: call, wait, take up again, give up
    fetch.py    files too large for a call
    modal.py    Modal, through its SDK; the far side is infra/deploy/modal_app.py
    runpod.py   RunPod, through its HTTP API; the far side is infra/deploy/runpod_handler.py

A call is paid for, whoever waits for it. So its id is remembered before anything waits, the next run of the job takes
it up again, and it is cancelled once nobody wants its result.
"""

from __future__ import annotations

from typing import Protocol


class Memory(Protocol):
    """What outlives a run of the job: kept in the job's row."""

    def recall(self) -> str | None:
        """The call that works on the job, if one does."""
        ...

    def remember(self, call: str | None) -> None: ...

    def wanted(self) -> bool:
        """Does the job still want a result of this run, or of the next one that takes the call up?"""
        ...
