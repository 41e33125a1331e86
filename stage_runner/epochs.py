"""The order of a data set's samples, derived from the seed and resumable at any sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate

from stage_runner.randomness import derive_seed, seed_generators


class Batch(NamedTuple):
    """The samples of one iteration; its randomness is seeded from seed, epoch and offset."""

    epoch: int
    offset: int  # samples of this epoch consumed before this batch
    indices: torch.Tensor


class Epochs:
    """Endless epochs, each a permutation of all samples; ``epoch`` and ``offset`` are the position.

    The last batch of an epoch is smaller if the batch size does not divide the rest: no sample is
    skipped, and no batch spans two epochs. Raises ValueError for empty data.
    """

    def __init__(self, length: int, *, seed: int) -> None:
        if length < 1:
            raise ValueError("the training data is empty")
        self._length = length
        self._seed = seed
        self._shuffled: tuple[int, torch.Tensor] | None = None
        self.epoch = 0
        self.offset = 0

    def take(self, batch_size: int) -> Batch:
        """Return the next batch and advance the position."""
        order = self._find_order()
        batch = Batch(self.epoch, self.offset, order[self.offset : self.offset + batch_size])
        self.offset += len(batch.indices)
        if self.offset >= self._length:
            self.epoch, self.offset = self.epoch + 1, 0
        return batch

    def take_step(self, batch_size: int, iterations: int | None) -> list[Batch]:
        """Return the batches of one step: ``iterations`` of them, or those up to the end of the
        epoch.
        """
        if iterations is not None:
            return [self.take(batch_size) for _ in range(iterations)]
        epoch, batches = self.epoch, []
        while self.epoch == epoch:
            batches.append(self.take(batch_size))
        return batches

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "offset": self.offset}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.offset = state["epoch"], state["offset"]

    def _find_order(self) -> torch.Tensor:
        if self._shuffled is None or self._shuffled[0] != self.epoch:
            generator = torch.Generator().manual_seed(derive_seed("order", self._seed, self.epoch))
            self._shuffled = (self.epoch, torch.randperm(self._length, generator=generator))
        return self._shuffled[1]


def split_in_order(length: int, batch_size: int) -> list[Batch]:
    """Return batches that cover all samples once, unshuffled."""
    offsets = range(0, length, batch_size)
    return [
        Batch(0, offset, torch.arange(offset, min(offset + batch_size, length)))
        for offset in offsets
    ]


class Batches:
    """Fetches batches of a data set, in this process or in worker processes, with equal results."""

    def __init__(self, dataset: Dataset[Any], *, seed: int, workers: int, device: str) -> None:
        self._wanted: list[Batch] = []
        self._tensors: tuple[torch.Tensor, ...] | None = None
        if type(dataset) is TensorDataset:
            self._tensors = tuple(tensor.to(device) for tensor in dataset.tensors)
            return
        self._loader: DataLoader[Any] = DataLoader(
            _Fetched(dataset, seed),
            sampler=_Wanted(self._wanted),
            batch_size=None,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.startswith("cuda"),
            generator=torch.Generator(),
        )

    def fetch(self, batches: list[Batch]) -> Iterator[tuple[Batch, Any]]:
        """Yield each batch with its collated samples. May change the state of the global
        generators.
        """
        if self._tensors is not None:
            for batch in batches:
                indices = batch.indices.to(self._tensors[0].device)
                yield batch, [tensor[indices] for tensor in self._tensors]
            return
        self._wanted[:] = batches
        yield from zip(batches, self._loader, strict=True)


class _Wanted:
    """Passes the current step's batches to the loader as a sampler."""

    def __init__(self, batches: list[Batch]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)


class _Fetched(Dataset[Any]):
    """A data set indexed by batches; seeds the generators so that augmentation is reproducible."""

    def __init__(self, dataset: Dataset[Any], seed: int) -> None:
        self._dataset = dataset
        self._seed = seed

    def __getitem__(self, batch: Batch) -> Any:
        seed_generators("fetch", self._seed, batch.epoch, batch.offset)
        return default_collate([self._dataset[index] for index in batch.indices.tolist()])


def as_dataset(data: Dataset[Any] | Sequence[torch.Tensor]) -> Dataset[Any]:
    """Convert a tuple of tensors (inputs, targets) to a TensorDataset; keep a data set."""
    if isinstance(data, (tuple, list)):
        return TensorDataset(*data)
    return data  # type: ignore[return-value]


def length_of(dataset: Dataset[Any]) -> int:
    measure: Callable[[Any], int] = len
    return measure(dataset)
