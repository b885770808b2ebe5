"""The settings of a model that a sweep varies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any


@dataclass(frozen=True, order=True)
class Setting:
    """Three fields of a model's configuration. Smaller settings need less memory, and wait less."""

    instances: int
    """Copies of the model on each device that compute at the same time."""
    max_batch_size: int
    """The largest batch that Triton forms."""
    delay_us: int
    """How long a batch waits for more requests, in microseconds."""

    def __str__(self) -> str:
        return f"{self.instances} x {self.max_batch_size}, {self.delay_us} us"

    def apply(self, config: Any) -> None:
        """Set the fields of an `inference.ModelConfig`.

        Warmups, CUDA graphs and the like that need larger batches are removed, because Triton refuses them.
        """
        config.max_batch_size = self.max_batch_size
        config.dynamic_batching.max_queue_delay_microseconds = self.delay_us
        config.dynamic_batching.SetInParent()
        # Triton reports the largest batch here where the repository's file has nothing, and refuses larger ones.
        del config.dynamic_batching.preferred_batch_size[:]
        if not config.instance_group:
            config.instance_group.add()
        for group in config.instance_group:
            group.count = self.instances
        for entries in (config.model_warmup, config.optimization.cuda.graph_spec):
            kept = [entry for entry in entries if entry.batch_size <= self.max_batch_size]
            del entries[:]
            entries.extend(kept)


def current(config: Any) -> Setting:
    """The setting of an `inference.ModelConfig`, as Triton reports it."""
    count = config.instance_group[0].count if config.instance_group else 1
    return Setting(count, config.max_batch_size, config.dynamic_batching.max_queue_delay_microseconds)


def grid(
    now: Setting, instances: Sequence[int], batch_sizes: Sequence[int], delays_us: Sequence[int]
) -> Iterator[Setting]:
    """The present setting, then every other combination. Batches are at most as large as now.

    A larger batch may not fit the engine: a TensorRT plan has a largest batch.
    """
    yield now
    for combination in product(instances, batch_sizes, delays_us):
        setting = Setting(*combination)
        if setting != now and setting.max_batch_size <= now.max_batch_size:
            yield setting
