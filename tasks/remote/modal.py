"""Modal, through its SDK: the class and the function that infra/deploy/modal_app.py deploys.

The SDK sends each request again by itself, under an idempotency key, and carries sounds of any size. News come through
a Dict of the app's, under the call's id.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Generator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.errors import ProviderNotReady
from infra.jobs.request import Request
from infra.jobs.stages import Progress
from infra.links import Link
from infra.settings import settings
from tasks.remote import Memory, call, sound, wire
from tasks.remote.call import Answered, Broken, State, Unreached, Waiting, Working, asked_once
from tasks.song import Audio, Song

if TYPE_CHECKING:
    from modal import Client

log = logging.getLogger(__name__)

NAME = "Modal"
SINGER = "Singer"  # the class of the app
FETCH = "fetch"  # its function
NEWS = "news"  # its Dict is called {app}-news
ARRIVING = 300.0  # seconds that an answer may take to here, a large sound included


def sing(audio: Audio, request: Request, report: Progress, memory: Memory) -> Song:
    """What tasks.gpu.sing does, done on Modal."""
    with _client() as client:
        return call.sing(Modal(client, partial(_sung, client, audio, request)), audio, report, memory)


def fetch(link: Link, folder: Path, report: Progress) -> Audio:
    """What tasks.download.download does, done on Modal by the routes that need no login. Only videos from YouTube."""
    with _client() as client:
        return call.fetch(Modal(client, partial(_fetched, client, link)), link, folder, report)


def cancel(call: str) -> None:
    """End the call if it still runs; one that is over or unknown is left as it is."""
    with asked_once(NAME), _client() as client:
        _cancel(client, call)


def news_name(app: str) -> str:
    return f"{app}-{NEWS}"


@dataclass(frozen=True, slots=True)
class Modal:
    client: Client
    spawn: Callable[[], Any]  # the call, as the SDK knows it
    name: str = NAME

    def start(self) -> str:
        with _answering():
            return self.spawn().object_id

    def look(self, call: str) -> State:
        import modal

        pending: Any = modal.FunctionCall.from_id(call, client=self.client)
        with _answering():
            try:
                return Answered(_in_time(partial(pending.get, timeout=0)))
            except TimeoutError:  # the builtin one: not yet
                return self._news(call)
            except Unreached:
                raise
            except Exception as error:
                return _broken(call, error)

    def cancel(self, call: str) -> None:
        _cancel(self.client, call)

    def _news(self, call: str) -> State:
        import modal
        from modal.exception import NotFoundError

        told: Any = modal.Dict.from_name(news_name(settings().modal_app), client=self.client)
        try:
            latest = told.get(call)
        except NotFoundError:
            return Waiting()
        return Waiting() if latest is None else Working(latest)


def _sung(client: Client, audio: Audio, request: Request) -> Any:
    import modal

    app = settings().modal_app
    order = wire.order(audio, request, NAME) | {"audio": audio.path.read_bytes()}
    singer: Any = modal.Cls.from_name(app, SINGER, client=client)
    with _deployed(f'app "{app}"'):
        return singer().sing.spawn(order)


def _fetched(client: Client, link: Link) -> Any:
    import modal

    app = settings().modal_app
    function: Any = modal.Function.from_name(app, FETCH, client=client)  # pyright: ignore
    with _deployed(f'app "{app}" with a function "{FETCH}"'):
        return function.spawn(sound.order(link, NAME))


@contextmanager
def _deployed(what: str) -> Generator[None]:
    from modal.exception import NotFoundError

    try:
        yield
    except NotFoundError as error:
        raise ProviderNotReady(provider=NAME, reason=f"no {what} is deployed there") from error


def _broken(call: str, error: Exception) -> Broken:
    """How the call failed, unless it is the asking that did."""
    import modal
    from aiohttp import ClientError  # the SDK's own way to large answers
    from modal import exception

    match error:
        case exception.OutputExpiredError() | exception.NotFoundError():
            return Broken("it no longer knows the call")
        case exception.FunctionTimeoutError():
            return Broken("it did not finish in time")
        case exception.RemoteError() | exception.InternalFailure():
            log.warning("a Modal container failed: %s", error)
            return Broken(f"its container fell: {wire.shown(str(error))}")
        case exception.ExecutionError():
            return Broken(f"its answer cannot be had: {wire.shown(str(error))}")
        case ClientError():
            raise Unreached("its answer does not arrive") from error
        case modal.Error():
            raise error
        case _:  # raised by the code there, and carried here
            log.warning("call %s failed on Modal", call, exc_info=error)
            return Broken("its worker raised an error, which the log holds")


def _in_time(ask: Callable[[], Any]) -> Any:
    """The answer, asked for in a thread that can be left behind: the SDK waits for a large one without any limit."""
    asked = Future[Any]()

    def run() -> None:
        try:
            asked.set_result(ask())
        except BaseException as error:
            asked.set_exception(error)

    threading.Thread(target=run, name="modal answers", daemon=True).start()
    if not wait([asked], ARRIVING).done:
        raise Unreached("its answer does not arrive")
    return asked.result()


def _cancel(client: Client, call: str) -> None:
    import modal
    from modal.exception import InvalidError, NotFoundError

    pending: Any = modal.FunctionCall.from_id(call, client=client)
    with _answering():
        try:
            pending.cancel()
        except (NotFoundError, InvalidError):
            log.info("call %s was over before it could be cancelled", call)


@contextmanager
def _client() -> Generator[Client]:
    id, secret = settings().modal_token_id, settings().modal_token_secret
    if id is None or secret is None:
        raise ProviderNotReady(provider=NAME, reason="MODAL_TOKEN_ID and MODAL_TOKEN_SECRET are not both set")
    try:
        import modal
        from modal.exception import AsyncUsageWarning
    except ImportError as error:
        raise ProviderNotReady(provider=NAME, reason="the extra `modal` is not installed") from error
    # A flow's steps are plain functions, called where an event loop runs. Nothing else waits for that loop.
    warnings.filterwarnings("ignore", category=AsyncUsageWarning)
    client: Client = modal.Client.from_credentials(id.get_secret_value(), secret.get_secret_value())
    try:
        yield client
    finally:
        client.close()


@contextmanager
def _answering() -> Generator[None]:
    """The SDK's errors, as a call knows them."""
    from modal.exception import AuthError, Error, PermissionDeniedError, VersionError

    try:
        yield
    except (AuthError, PermissionDeniedError) as error:
        reason = "it refuses the token in MODAL_TOKEN_ID and MODAL_TOKEN_SECRET"
        raise ProviderNotReady(provider=NAME, reason=reason) from error
    except VersionError as error:
        raise ProviderNotReady(provider=NAME, reason="the installed package modal is too old for it") from error
    except Error as error:
        raise Unreached(wire.shown(str(error))) from error
