"""The models that this process holds: each loaded once, shared by all steps, and let go when asked."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from infra.settings import settings

if TYPE_CHECKING:
    import torch

Device = Literal["best", "cpu"]  # a GPU where there is one; or not even then

AT_MOST = 2  # models of a kind: the usual one, and one that somebody asks for by name

T = TypeVar("T")

_held: dict[Hashable, Any] = {}  # the one used last stands last
_loading = threading.RLock()


def hold(key: Hashable, load: Callable[[], T]) -> T:
    """The model of this key, loaded now or long ago. Of a kind, the key's first part, the least used makes room."""
    with _loading:
        if key in _held:
            _held[key] = _held.pop(key)
        else:
            while len(others := [held for held in _held if _kind(held) == _kind(key)]) >= AT_MOST:
                release(others[0])
            _held[key] = load()
        return cast(T, _held[key])


def _kind(key: Hashable) -> Hashable:
    return cast("tuple[Hashable, ...]", key)[0] if isinstance(key, tuple) else key


def release(key: Hashable | None = None) -> None:
    """Let go of one model or of all, on the GPU too."""
    import gc
    import sys

    with _loading:
        if key is None:
            _held.clear()
        else:
            _held.pop(key, None)
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def device(wanted: Device = "best") -> str:
    """Where CTranslate2 works: "cuda" or "cpu". Asked without importing torch."""
    from ctranslate2 import get_cuda_device_count  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    return "cuda" if wanted == "best" and get_cuda_device_count() else "cpu"


def torch_device(wanted: Device = "best") -> str:
    """Where torch works: its build may lack CUDA, whatever CTranslate2 finds."""
    import torch

    return "cuda" if wanted == "best" and torch.cuda.is_available() else "cpu"


def on_all_threads() -> None:
    """For a step that uses torch: a model of CTranslate2's that was loaded in this thread left it with one."""
    import torch

    torch.set_num_threads(threads())


def half(on: str) -> torch.dtype | None:
    """The narrower number format in which torch is faster on this device; none where that would be slower."""
    import torch

    if on == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    # There is no public question for this one.
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else None  # pyright: ignore[reportPrivateUsage]


def threads() -> int:
    return settings().cpu_threads or os.cpu_count() or 1
