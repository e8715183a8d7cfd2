"""Communication between processes that train or score one net together, each with its part of the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """A process's rank and the number of processes; all of them call the same methods in the same order."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Return True in the process that writes files and prints."""
        return self.rank == 0

    def summed(self, values: Tensor) -> Tensor:
        """Sum `values` over all processes in place and return them."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def maximum(self, value: int, device: torch.device) -> int:
        """Return the largest `value` of all processes."""
        if self.size == 1:
            return value
        largest = torch.tensor(value, device=device)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def broadcast_object(self, value: T) -> T:
        """Return the first process's `value`, which may be any plain value."""
        values = [value]
        if self.size > 1:
            dist.broadcast_object_list(values, 0)
        return values[0]

    def broadcast(self, values: list[Tensor]) -> None:
        """Overwrite `values` in place with those of the first process."""
        if self.size > 1:
            for value in values:
                plain = value.contiguous()  # processes may hold the same numbers in different memory layouts
                dist.broadcast(plain, 0)
                value.copy_(plain)


ALONE = Ranks()


def data_parallel(net: nn.Module, device: torch.device, ranks: Ranks) -> nn.Module:
    """Return `net` as a module whose gradients are, after each backward pass, the mean over all processes."""
    if ranks.size == 1:
        return net
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(net, ids, gradient_as_bucket_view=True)
