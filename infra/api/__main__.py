"""Serves the API and the page until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import logging

import uvicorn

from infra.api.app import Liveness, create_app
from infra.settings import settings

FAREWELL = 0.3  # seconds in which /health says that we are stopping


class Server(uvicorn.Server):
    def handle_exit(self, sig: int, frame: object) -> None:
        if Liveness.stopping:
            self.should_exit = True
            return
        Liveness.stopping = True
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(loop.call_later, FAREWELL, setattr, self, "should_exit", True)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    config = uvicorn.Config(
        create_app(settings()),
        host=settings().listen,
        port=settings().port or 8000,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    Server(config).run()


if __name__ == "__main__":
    main()
