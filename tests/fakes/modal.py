"""Modal's control plane on loopback, as its SDK speaks to it: gRPC, with blobs over HTTP.

    with ModalServer() as modal:
        modal.environment()                              what the SDK and our settings read
        modal.next(Play(news=[{...}], answer={...}))     how the next call goes; without one, DOCUMENT at once
        modal.next(Play(work=function))                  … or as a function does it, in a thread, as in a container
        modal.fault("FunctionMap", Status.UNAVAILABLE)   what the next request of that name meets instead
        modal.calls                                      every call ever made, in order, by the function it was for
        modal.functions.remove("fetch")                  an app that was deployed before it had that function
        modal.fault("Blob", Status.UNAVAILABLE)          the next download of a large answer breaks off
        modal.blobs_arrive.clear()                       large answers stop half-way, until it is set

Only what the client uses is there; any other request is UNIMPLEMENTED, as with a server of another version.
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from grpclib import GRPCError, Status
from grpclib.server import Server
from modal._runtime.execution_context import _set_current_context_ids
from modal._serialization import deserialize, serialize
from modal_proto import api_pb2
from modal_proto.api_grpc import ModalClientBase

from tests.fakes.runpod import DOCUMENT

TOKEN_ID, TOKEN_SECRET = "ak-id", "as-secret"
GONE, PENDING = object(), object()
SINGER, FETCH = "Singer.*", "fetch"  # the app's class and its function, as the SDK asks for them
INLINE = 2 << 20  # bytes; a larger result is a blob
SUCCESS, FAILURE = api_pb2.GenericResult.GENERIC_STATUS_SUCCESS, api_pb2.GenericResult.GENERIC_STATUS_FAILURE
TERMINATED, TIMEOUT = api_pb2.GenericResult.GENERIC_STATUS_TERMINATED, api_pb2.GenericResult.GENERIC_STATUS_TIMEOUT
INTERNAL = api_pb2.GenericResult.GENERIC_STATUS_INTERNAL_FAILURE


@dataclass
class Play:
    """How a call goes, poll by poll: so many without news, one for each piece of news, then the end."""

    queued: int = 0
    news: list[dict[str, Any]] = field(default_factory=list)
    status: int = SUCCESS
    answer: Any = field(default_factory=lambda: DOCUMENT)
    raised: BaseException | None = None  # by the code there
    exception: str = ""  # Modal's own words
    stuck: bool = False
    expired: bool = False  # in the end, as when its result was kept long enough
    work: Callable[[dict[str, Any]], Any] | None = None  # instead of all that


@dataclass
class Call:
    id: str
    order: dict[str, Any]
    play: Play
    function: str = SINGER
    polls: int = 0
    cancelled: bool = False
    ended: tuple[int, Any] | None = None


class ModalServer:
    def __init__(self, app: str = "yt-lyrics") -> None:
        self.app = app
        self.calls: list[Call] = []
        self.news: dict[bytes, bytes] = {}  # the app's Dict, as the SDK writes it
        self.blobs: dict[str, bytes] = {}
        self.functions = [SINGER, FETCH]
        self.blobs_arrive = threading.Event()
        self.blobs_arrive.set()
        self._plays: deque[Play] = deque()
        self._faults: dict[str, deque[Status]] = defaultdict(deque)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._workers: list[threading.Thread] = []
        self._storage = ThreadingHTTPServer(("127.0.0.1", 0), _storage(self))
        self._storage_thread = threading.Thread(target=self._storage.serve_forever, kwargs={"poll_interval": 0.02})
        self._server: Any = None
        self.url = ""

    def environment(self) -> dict[str, str]:
        return {"MODAL_SERVER_URL": self.url, "MODAL_TOKEN_ID": TOKEN_ID, "MODAL_TOKEN_SECRET": TOKEN_SECRET}

    def next(self, *plays: Play) -> None:
        self._plays.extend(plays)

    def fault(self, request: str, *statuses: Status) -> None:
        self._faults[request].extend(statuses)

    def met(self, request: str) -> Status | None:
        return self._faults[request].popleft() if self._faults[request] else None

    def blob_url(self, id: str) -> str:
        return f"http://127.0.0.1:{self._storage.server_port}/{id}"

    def blob(self, content: bytes | None = None) -> str:
        """A new blob's id."""
        id = f"bl-{len(self.blobs) + 1}"
        self.blobs[id] = content or b""
        return id

    def begin(self, order: dict[str, Any], function: str = SINGER) -> Call:
        play = self._plays.popleft() if self._plays else Play()
        call = Call(f"fc-{len(self.calls) + 1}", order, play, function)
        self.calls.append(call)
        if call.play.work:
            worker = threading.Thread(target=self._work, args=(call,))
            self._workers.append(worker)
            worker.start()
        return call

    def _work(self, call: Call) -> None:
        reset = _set_current_context_ids(["in-1"], [call.id], [""])
        try:
            assert call.play.work
            call.ended = SUCCESS, call.play.work(call.order)
        except Exception as error:
            call.ended = FAILURE, error
        finally:
            reset()

    def look(self, call: Call) -> api_pb2.GenericResult | object:
        """The result, or PENDING or GONE."""
        call.polls += 1
        if call.cancelled:
            return api_pb2.GenericResult(status=TERMINATED, exception="Input was cancelled by user")
        if call.play.work:
            return self._result(*call.ended) if call.ended else PENDING
        at = call.polls - 1 - call.play.queued
        if at < 0:
            return PENDING
        if at < len(call.play.news):
            self.news[serialize(call.id)] = serialize(call.play.news[at])
            return PENDING
        if call.play.stuck:
            return PENDING
        if call.play.expired:
            return GONE
        if call.play.raised:
            return self._result(FAILURE, call.play.raised)
        if call.play.status != SUCCESS:
            return api_pb2.GenericResult(status=call.play.status, exception=call.play.exception)
        return self._result(SUCCESS, call.play.answer)

    def _result(self, status: int, value: Any) -> api_pb2.GenericResult:
        exception, data = repr(value) if status == FAILURE else "", serialize(value)
        if len(data) > INLINE:
            return api_pb2.GenericResult(status=status, data_blob_id=self.blob(data), exception=exception)
        return api_pb2.GenericResult(status=status, data=data, exception=exception)

    def __enter__(self) -> Self:
        self._storage_thread.start()
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    async def _listen(self) -> None:
        self._server = Server([_servicer(self)])
        await self._server.start("127.0.0.1", 0)
        port = self._server._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    async def _close(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    def __exit__(self, *_: object) -> None:
        self.blobs_arrive.set()
        for worker in self._workers:
            worker.join(60)
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._storage.shutdown()
        self._storage_thread.join()
        self._storage.server_close()


# --- gRPC ---------------------------------------------------------------------------------------


class _Requests:
    """Each method is one request of the SDK's, by its name."""

    def __init__(self, modal: ModalServer) -> None:
        self.modal = modal

    def ClientHello(self, _: Any) -> Any:
        return api_pb2.ClientHelloResponse()

    def FunctionGet(self, asked: Any) -> Any:
        if asked.app_name != self.modal.app or asked.object_tag not in self.modal.functions:
            raise GRPCError(Status.NOT_FOUND, "App not found")
        about = _function(asked.object_tag)
        if asked.object_tag == SINGER:
            about.is_method = True
            about.method_handle_metadata["sing"].CopyFrom(_function("Singer.sing", "sing"))
        ranked = api_pb2.FunctionData.RankedFunction(function=api_pb2.Function())
        data = api_pb2.FunctionData(ranked_functions=[ranked])
        return api_pb2.FunctionGetResponse(function_id=f"fu-{asked.object_tag}", handle_metadata=about, function=data)

    def ClassGet(self, asked: Any) -> Any:
        return api_pb2.ClassGetResponse(class_id="cs-1", handle_metadata=api_pb2.ClassHandleMetadata())

    def FunctionMap(self, asked: Any) -> Any:
        item = asked.pipelined_inputs[0].input
        function = asked.function_id.removeprefix("fu-")
        assert item.method_name == ("sing" if function == SINGER else "")
        (order,), _ = deserialize(item.args or self.modal.blobs[item.args_blob_id], None)
        call = self.modal.begin(order, function)
        entry = api_pb2.FunctionPutInputsResponseItem(idx=0, input_id="in-1")
        return api_pb2.FunctionMapResponse(function_call_id=call.id, pipelined_inputs=[entry])

    def FunctionGetOutputs(self, asked: Any) -> Any:
        result = self.modal.look(self._call(asked.function_call_id))
        if isinstance(result, api_pb2.GenericResult):
            item = api_pb2.FunctionGetOutputsItem(result=result, data_format=api_pb2.DATA_FORMAT_PICKLE)
            return api_pb2.FunctionGetOutputsResponse(outputs=[item])
        return api_pb2.FunctionGetOutputsResponse(num_unfinished_inputs=int(result is PENDING))

    def FunctionCallCancel(self, asked: Any) -> Any:
        self._call(asked.function_call_id).cancelled = True
        return None

    def BlobCreate(self, asked: Any) -> Any:
        id = self.modal.blob()
        urls = api_pb2.UploadUrlList(items=[self.modal.blob_url(id)])
        return api_pb2.BlobCreateResponse(blob_ids=[id], upload_urls=urls)

    def BlobGet(self, asked: Any) -> Any:
        return api_pb2.BlobGetResponse(download_url=self.modal.blob_url(asked.blob_id))

    def DictGetOrCreate(self, asked: Any) -> Any:
        if asked.deployment_name != f"{self.modal.app}-news":
            raise GRPCError(Status.NOT_FOUND, "no such Dict")
        return api_pb2.DictGetOrCreateResponse(dict_id="di-1")

    def DictGet(self, asked: Any) -> Any:
        value = self.modal.news.get(asked.key)
        return api_pb2.DictGetResponse(found=value is not None, value=value)

    def DictUpdate(self, asked: Any) -> Any:
        self.modal.news.update({entry.key: entry.value for entry in asked.updates})
        return api_pb2.DictUpdateResponse(created=True)

    def _call(self, id: str) -> Call:
        for call in self.modal.calls:
            if call.id == id:
                return call
        raise GRPCError(Status.NOT_FOUND, "no such call")


def _function(name: str, method: str = "") -> api_pb2.FunctionHandleMetadata:
    return api_pb2.FunctionHandleMetadata(
        function_name=name,
        function_type=api_pb2.Function.FUNCTION_TYPE_FUNCTION,
        is_method=bool(method),
        use_method_name=method,
        supported_input_formats=[api_pb2.DATA_FORMAT_PICKLE],
        supported_output_formats=[api_pb2.DATA_FORMAT_PICKLE],
    )


def _servicer(modal: ModalServer) -> Any:
    """Every request of Modal's protocol: those above are answered, the others are not."""
    from google.protobuf.empty_pb2 import Empty

    requests = _Requests(modal)

    def method(name: str) -> Any:
        async def answer(self: Any, stream: Any) -> None:
            asked = await stream.recv_message()
            headers = stream.metadata
            if (headers.get("x-modal-token-id"), headers.get("x-modal-token-secret")) != (TOKEN_ID, TOKEN_SECRET):
                raise GRPCError(Status.UNAUTHENTICATED, "Token validation failed")
            if fault := modal.met(name):
                raise GRPCError(fault, f"{name} meets {fault.name}")
            known = getattr(requests, name, None)
            if known is None:
                raise GRPCError(Status.UNIMPLEMENTED, name)
            await stream.send_message(known(asked) or Empty())

        return answer

    names = ModalClientBase.__abstractmethods__
    return type("Servicer", (ModalClientBase,), {name: method(name) for name in names})()


# --- blobs --------------------------------------------------------------------------------------


def _storage(modal: ModalServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            import hashlib

            content = self.rfile.read(int(self.headers["Content-Length"]))
            modal.blobs[self.path.strip("/")] = content
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            content = modal.blobs[self.path.strip("/")]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            half = len(content) // 2
            with suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(content[:half])
                modal.blobs_arrive.wait()
                if modal.met("Blob") is None:
                    self.wfile.write(content[half:])

        def log_message(self, *_: object) -> None: ...

    return Handler
