"""How much is done at once, and what is tried when that was too much: fewer segments, shorter ones, the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MOST = 16  # segments at once, a minute and a half of sound: between two of them nobody is told, and nobody can cancel
ROOM = 0.8  # of the free memory that may be taken: others live on the same GPU, and it falls into pieces
SHORTER = (7, 5, 3)  # seconds of a segment where those that the model was trained with need too much

# What says that memory ran out: torch on CUDA and on the CPU, cuDNN and cuBLAS.
_SAYINGS = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")


@dataclass(frozen=True, slots=True)
class Way:
    """Where the model runs, and on segments of how many seconds; of its own length where none is named."""

    device: str
    seconds: int | None = None

    def __str__(self) -> str:
        where = "on the GPU" if self.device == "cuda" else "on the CPU"
        return f"{where} in segments of {self.seconds} s" if self.seconds else where


def ways(device: str) -> tuple[Way, ...]:
    """The rungs, the best first."""
    devices = ("cuda", "cpu") if device == "cuda" else ("cpu",)
    return tuple(Way(device, seconds) for device in devices for seconds in (None, *SHORTER))


def out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(saying in str(error).lower() for saying in _SAYINGS)


def check_room(need: int, way: Way) -> None:
    """On a CPU ask before: Linux promises memory that it does not have, and later kills whoever believed it."""
    if way.device == "cpu" and need > available():
        raise MemoryError


def available(group: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that this process may still take, of the machine's and of its container's."""
    import psutil

    free = psutil.virtual_memory().available
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        cached = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())["inactive_file"]
    except (OSError, ValueError, KeyError):  # no container, or one without a limit ("max")
        return free
    return min(free, limit - used + int(cached))


class Pace:
    """How many segments go through the model at once: first one, to see what it costs; then what there is room for."""

    def __init__(self, device: str, say: Callable[[int], None], batch: int = 1) -> None:
        self.batch = batch
        self._say = say
        self._measured = device != "cuda"  # two at once only crowd a CPU's caches: a third slower each
        if not self._measured:
            _forget_peak()

    def measure(self) -> None:
        """After the first segment."""
        if not self._measured:
            self._measured = True
            self.batch = max(1, min(MOST, _fitting()))

    def slower(self) -> bool:
        """Half as many, if there is a half."""
        if self.batch == 1:
            return False
        self._measured = True  # more than there was, whatever one costs
        self.batch //= 2
        self._say(self.batch)
        return True


def _forget_peak() -> None:
    import torch

    torch.cuda.reset_peak_memory_stats()


def _fitting() -> int:
    """How many segments the GPU has room for, by what the one cost that it has just seen."""
    import torch

    free, _ = torch.cuda.mem_get_info()
    held = torch.cuda.memory_allocated()
    unused = torch.cuda.memory_reserved() - held  # torch keeps what it once had
    cost = torch.cuda.max_memory_allocated() - held
    return int(ROOM * (free + unused) / max(cost, 1))
