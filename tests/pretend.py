"""GPUs for machines that have none: tensors that claim one and are computed on the CPU, and a driver that is faked.

torch's own FakeTensorMode has no values, takes a CPU's generator for a GPU's tensor, and cannot go backward where
there is no driver; so a mode of our own stands in for it here.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from pipeline import device as devices
from pipeline.device import has_gpu
from vgg.ranks import Ranks

CPU = torch.device("cpu")
WHERE = torch.device("cuda", 1)  # of two, so that what names none, or the first, is found out
READS = (
    "_local_scalar_dense",
    "is_nonzero",
    "equal",
    "nonzero",
    "masked_select",
    "_unique2",
)  # operators whose result the CPU needs
COPIES = ("_to_copy", "copy_")
INDEXING = ("index", "index_put_", "_index_put_impl_")


class Claimed(Tensor):
    """A tensor that says it is on a GPU; `held` is what it stands for, on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor, where: torch.device) -> Claimed:
        size, strides = held.size(), held.stride()
        made: Claimed = torch.Tensor._make_wrapper_subclass(
            cls, size, strides=strides, storage_offset=held.storage_offset(), dtype=held.dtype, device=where
        )
        made.held = held
        return made

    def __tensor_flatten__(self) -> tuple[list[str], torch.device]:
        return ["held"], self.device

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], where: torch.device, size: Any, stride: Any) -> Claimed:
        return Claimed(inner["held"], where)

    def __repr__(self, **_: Any) -> str:
        return f"{self.held!r} on {self.device}"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.__reduce_ex__(protocol)  # in a file that is loaded onto the CPU

    @classmethod
    def __torch_dispatch__(cls, func: Any, *_: Any) -> Any:
        raise RuntimeError(f"{func} where no GPU is pretended")


class Pretend(TorchDispatchMode):
    """Computes on the CPU what is asked of a GPU, and refuses what a GPU refuses.

    `waits` has all that would keep the CPU waiting until a GPU is done.
    """

    def __init__(self) -> None:
        super().__init__()
        self.there, self.count, self.current = True, 2, WHERE.index
        self.shares: list[tuple[float, torch.device]] = []  # of the memory, that torch is held to
        self.waits: list[str] = []
        self.emptied: list[int] = []  # bytes in use at each empty_cache
        self.made: list[weakref.ref[Tensor]] = []
        self.stream = object()
        self.decoded: int | None = None  # the GPU on which DALI's last batch lies

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if torch.is_inference_mode_enabled():  # without autograd nothing has taken composite operators apart
            with self:
                found = func.decompose(*args, **kwargs)
            if found is not NotImplemented:
                return found
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        there = {one.device for one in given if isinstance(one, Claimed)}
        asked = kwargs.get("device")
        target = next(iter(there), CPU) if asked is None else self.place(asked)
        if not there and target == CPU:
            return func(*args, **kwargs)
        self.refuse(func, given, there, target, kwargs)
        if asked is not None:
            kwargs["device"] = CPU
        held = {id(one.held): one for one in given if isinstance(one, Claimed)}
        plain = tree_map(lambda one: one.held if isinstance(one, Claimed) else one, (args, kwargs))
        found = func(*plain[0], **plain[1])
        return tree_map(lambda one: held[id(one)] if id(one) in held else self.claim(one, target), found)

    def use(self, name: str) -> None:
        """Have GPUs, or only a CPU, for what asks for `device: auto` from here on."""
        self.there = name == "gpu"
        has_gpu.cache_clear()

    def place(self, asked: Any) -> torch.device:
        """The device that is meant, with its number."""
        where = torch.device(asked)
        return torch.device("cuda", self.current) if where == torch.device("cuda") else where

    def claim(self, value: Any, where: torch.device = WHERE) -> Any:
        """A tensor moved to `where`; anything else as it is."""
        if not isinstance(value, Tensor) or where == CPU:
            return value
        self.made.append(weakref.ref(value))
        with torch.inference_mode(False):  # a view of a tensor that is not inference mode's must not be it either
            return Claimed(value, where)

    def bytes(self) -> int:
        """What lies in the GPU's memory."""
        alive = [one for one in (made() for made in self.made) if one is not None]
        self.made = [weakref.ref(one) for one in alive]
        return sum({one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in alive}.values())

    def refuse(
        self, func: Any, given: list[Tensor], there: set[torch.device], target: torch.device, kwargs: Any
    ) -> None:
        """RuntimeError for what a GPU refuses; note what waits."""
        name = func._schema.name.removeprefix("aten::")
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type != target.type:
            raise RuntimeError(f"{name}: a {generator.device} generator on {target}")
        if name in COPIES:
            source, goal = (given[0].device, target) if name == "_to_copy" else (given[1].device, given[0].device)
            behind = name == "_to_copy" and kwargs.get("non_blocking") and getattr(given[0], "pinned", False)
            if source != goal and not behind:
                self.waits.append(f"{name} from {source} to {goal}")
            return
        if name in READS:
            self.waits.append(name)
        if name in INDEXING:
            if any(one.device == CPU or one.dtype == torch.bool for one in given[1:]):
                self.waits.append(name)
            return
        scalars = torch.Tag.pointwise in func.tags
        if len(there) > 1 or any(one.device == CPU and not (scalars and one.dim() == 0) for one in given if there):
            raise RuntimeError(f"{name} of tensors on {[str(one.device) for one in given]}")


class Event:
    """A GPU's event, whose time may be read only once the CPU has waited for it."""

    gpu: Pretend

    def __init__(self, enable_timing: bool = False) -> None:
        self.timing, self.at = enable_timing, 0.0

    def record(self) -> None:
        self.at = time.monotonic()

    def synchronize(self) -> None:
        self.gpu.waits.append("event")

    def elapsed_time(self, end: Event) -> float:
        assert self.timing and end.timing and self.at and end.at
        assert self.gpu.waits[-1:] == ["synchronize"], "nobody has waited for the GPU"
        return 1000 * (end.at - self.at)


def backward(roots: Sequence[Tensor], given: Sequence[Tensor], *_: Any, **__: Any) -> tuple[()]:
    """What torch's engine does, which asks the driver for streams: all nodes, the last made first."""
    nodes: set[Any] = set()
    waiting = [root.grad_fn for root in roots]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            waiting += [following for following, _ in node.next_functions]
    inputs: dict[Any, dict[int, Tensor]] = {
        root.grad_fn: {root.output_nr: value} for root, value in zip(roots, given, strict=True)
    }
    leaves_last = sorted(nodes, key=lambda node: (hasattr(node, "variable"), -node._sequence_nr()))
    with torch.no_grad():
        for node in leaves_last:
            came = inputs.pop(node)
            found = node(*(came.get(number) for number in range(max(came) + 1)))
            outputs = found if isinstance(found, tuple) else (found,)
            for (following, number), value in zip(node.next_functions, outputs, strict=bool(node.next_functions)):
                if following is not None and value is not None:
                    place = inputs.setdefault(following, {})
                    place[number] = place[number] + value if number in place else value
    return ()


@contextmanager
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pretend]:
    """Two GPUs, of which this process has the second; what is set of torch is set back."""
    mode = Pretend()
    faked: dict[str, Any] = {
        "is_available": lambda: mode.there,
        "device_count": lambda: mode.count,
        "current_device": lambda: mode.current,
        "set_device": lambda where: setattr(mode, "current", torch.device(where).index),
        "current_stream": lambda where: (mode.stream, where),
        "synchronize": lambda where=None: mode.waits.append("synchronize"),
        "empty_cache": lambda: mode.emptied.append(mode.bytes()),
        "set_per_process_memory_fraction": lambda share, where: mode.shares.append((share, where)),
        "is_bf16_supported": lambda *_: True,
        "is_current_stream_capturing": lambda: False,
        "Event": type("Event", (Event,), {"gpu": mode}),
        "_lazy_init": lambda: None,
    }
    for name, fake in faked.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
    for module in (torch.autograd, torch.autograd.graph):
        monkeypatch.setattr(module, "_engine_run_backward", backward)
    monkeypatch.setattr(devices, "_has_driver", lambda: True)
    has_gpu.cache_clear()
    backends = torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    lifts = torch._C._only_lift_cpu_tensors()
    torch._C._ensureCUDADeviceGuardSet()  # the guard that FakeTensorMode sets, too, where there is no driver
    torch._C._set_only_lift_cpu_tensors(True)
    with mode:
        yield mode
    torch._C._set_only_lift_cpu_tensors(lifts)
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = backends
    has_gpu.cache_clear()


def pinned(tensor: Tensor) -> Tensor:
    """A copy from which a GPU may fetch while the CPU goes on."""
    assert tensor.device == CPU, "only a CPU's memory can be pinned"
    made = tensor.clone()
    made.pinned = True  # type: ignore[attr-defined]
    return made


def values(found: Any) -> list[Tensor]:
    """The tensors of a list or dictionary, on the CPU."""
    return [one.detach().cpu() for one in (found.values() if isinstance(found, dict) else found)]


def same(found: Any, wanted: Any) -> bool:
    """Whether all bits are, wherever they are: both were computed by the same code for CPUs, in the same order."""
    return all(torch.equal(one, other) for one, other in zip(values(found), values(wanted), strict=True))


class Compiled(nn.Module):
    """What torch.compile makes of a module, as far as it matters here."""

    def __init__(self, inner: nn.Module, fails: Exception | None = None) -> None:
        super().__init__()
        self._orig_mod, self.fails, self.shapes = inner, fails, list[torch.Size]()

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        self.shapes.append(x.shape)
        found: Tensor = self._orig_mod(x, keys)
        if self.fails:
            raise self.fails
        return found


class Others(Ranks):
    """Several processes, of which another has a `largest` to tell."""

    largest = 0

    def maximum(self, value: int, where: torch.device) -> int:
        assert where == WHERE
        return max(value, self.largest)
