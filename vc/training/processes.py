"""One training run on several processes: on the GPUs of a machine, or on many machines.

`torchrun` starts the processes and torch.distributed connects them. A step is made of
micro-batches (`run.micro_batches`), each with random numbers of its own. Every process takes its
share of them, and gradients are averaged over all: so one process that works through all
micro-batches takes the same steps as several that share them, up to the order of floating-point
sums.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from vc.errors import ConfigError

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this is. Alone, nothing is communicated."""

    rank: int = 0
    size: int = 1
    device: torch.device = _CPU

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that validates, writes files and speaks."""
        return self.rank == 0

    def share(self, micro_batches: int) -> range:
        """Numbers of the micro-batches that this process works on.

        Raises:
            ConfigError: they cannot be shared evenly.
        """
        if micro_batches % self.size:
            raise ConfigError(
                f"run.micro_batches = {micro_batches} cannot be shared by {self.size} processes; "
                f"set it to a multiple of {self.size}"
            )
        return range(self.rank, micro_batches, self.size)

    def average_gradients(self, parameters: Sequence[nn.Parameter], micro_batches: int) -> None:
        """Divide the summed gradients of all processes by the number of micro-batches.

        A parameter that no micro-batch has touched keeps no gradient.
        """
        if self.size > 1:
            touched = torch.tensor([p.grad is not None for p in parameters], dtype=torch.float32)
            sums = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
            flat = torch.cat([touched.to(self.device), *(g.flatten().float() for g in sums)])
            distributed.all_reduce(flat)
            touched, *parts = flat.split([len(parameters), *(p.numel() for p in parameters)])
            for parameter, part, count in zip(parameters, parts, touched.tolist(), strict=True):
                parameter.grad = part.view_as(parameter).to(parameter) if count else None
        if micro_batches > 1:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad /= micro_batches

    def share_moves(self, buffers: Sequence[Tensor], before: Sequence[Tensor]) -> None:
        """Let buffers move by what all processes have moved theirs by.

        One process would have moved them by one micro-batch after the other, which comes to nearly
        the same where moves are small.

        Args:
            buffers: as this process has moved them; changed in place.
            before: the same as they were, the same in all processes.
        """
        if self.size == 1 or not buffers:
            return
        moves = [(b - a).flatten().float() for a, b in zip(before, buffers, strict=True)]
        flat = torch.cat(moves)
        distributed.all_reduce(flat)
        parts = flat.split([len(move) for move in moves])
        for buffer, start, move in zip(buffers, before, parts, strict=True):
            buffer.copy_(start + move.view_as(start))

    def largest(self, value: float) -> float:
        """The largest of all processes' values, on which they thereby agree."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        distributed.all_reduce(shared, distributed.ReduceOp.MAX)
        return float(shared)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            distributed.barrier()


ALONE = Processes()


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """The processes that `torchrun` started, or this one alone.

    Args:
        device: for CUDA, each process takes the GPU of its own local number.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Processes(device=device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), size, device)
    finally:
        distributed.destroy_process_group()
