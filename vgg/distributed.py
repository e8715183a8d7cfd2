"""Processes that train or score one net together, each with its part of the images: what they tell each other."""

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
    """Which of how many processes this one is; all of them call the same methods in the same order."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    def summed(self, values: Tensor) -> Tensor:
        """`values` summed over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def maximum(self, value: int, device: torch.device) -> int:
        """The largest `value` of all."""
        if self.size == 1:
            return value
        largest = torch.tensor(value, device=device)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def broadcast_object(self, value: T) -> T:
        """What the first one says: any plain value."""
        values = [value]
        if self.size > 1:
            dist.broadcast_object_list(values, 0)
        return values[0]

    def broadcast(self, values: list[Tensor]) -> None:
        """Give all the first one's `values`, in place."""
        if self.size > 1:
            for value in values:
                plain = value.contiguous()  # whatever each process's order of the same numbers in memory
                dist.broadcast(plain, 0)
                value.copy_(plain)


ALONE = Ranks()


def data_parallel(net: nn.Module, device: torch.device, ranks: Ranks) -> nn.Module:
    """`net` as a module whose gradients are, after each backward pass, the mean over all processes."""
    if ranks.size == 1:
        return net
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(net, ids, gradient_as_bucket_view=True)
