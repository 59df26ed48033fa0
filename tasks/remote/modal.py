"""Modal, through its SDK: the class that infra/deploy/modal_app.py deploys.

The SDK sends each request again by itself, under an idempotency key, and carries sounds of any size. News come through
a Dict of the app's, under the call's id.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.errors import ProviderAway, ProviderNotReady
from infra.jobs.request import Request
from infra.jobs.stages import Progress
from infra.settings import settings
from tasks.remote import Memory, call, wire
from tasks.remote.call import Answered, Broken, State, Unreached, Waiting, Working
from tasks.song import Audio, Song

if TYPE_CHECKING:
    from modal import Client

log = logging.getLogger(__name__)

NAME = "Modal"
SINGER = "Singer"  # the class of the app
NEWS = "news"  # its Dict is called {app}-news


def sing(audio: Audio, request: Request, report: Progress, memory: Memory) -> Song:
    """What tasks.gpu.sing does, done on Modal."""
    with _client() as client:
        return call.sing(Modal(client, audio, request), audio, report, memory)


def cancel(call: str) -> None:
    """End the call if it still runs; one that is over or unknown is left as it is."""
    with _client() as client:
        try:
            _cancel(client, call)
        except Unreached as away:
            raise ProviderAway(provider=NAME, reason=str(away)) from away


def news_name(app: str) -> str:
    return f"{app}-{NEWS}"


@dataclass(frozen=True, slots=True)
class Modal:
    client: Client
    audio: Audio
    request: Request
    name: str = NAME

    def start(self) -> str:
        import modal
        from modal.exception import NotFoundError

        app = settings().modal_app
        order = wire.order(self.audio, self.request, NAME) | {"audio": self.audio.path.read_bytes()}
        singer: Any = modal.Cls.from_name(app, SINGER, client=self.client)
        with _answering():
            try:
                return singer().sing.spawn(order).object_id
            except NotFoundError as error:
                raise ProviderNotReady(provider=NAME, reason=f'no app "{app}" is deployed there') from error

    def look(self, call: str) -> State:
        import modal
        from modal.exception import (
            ExecutionError,
            FunctionTimeoutError,
            InternalFailure,
            NotFoundError,
            OutputExpiredError,
            RemoteError,
        )

        pending: Any = modal.FunctionCall.from_id(call, client=self.client)
        with _answering():
            try:
                return Answered(pending.get(timeout=0))
            except TimeoutError:  # the builtin one: not yet
                return self._news(call)
            except (OutputExpiredError, NotFoundError):
                return Broken("it no longer knows the call")
            except FunctionTimeoutError:
                return Broken("it did not finish in time")
            except (RemoteError, ExecutionError, InternalFailure) as error:
                log.warning("a Modal container failed: %s", error)
                return Broken(f"its container fell: {wire.shown(str(error))}")
            except modal.Error:
                raise
            except Exception:  # raised by the code there, and carried here
                log.warning("call %s failed on Modal", call, exc_info=True)
                return Broken("its worker raised an error, which the log holds")

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
