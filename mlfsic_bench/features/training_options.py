"""How a network inside a run is computed and trained: the options of live and end-to-end features.

Imports nothing heavy: a plan and the command line hold these options.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

from mlfsic_bench.errors import BenchError, unknown_name

Augmentation = Literal["translate", "contrast", "flip"]
AUGMENTATIONS: tuple[Augmentation, ...] = get_args(Augmentation)
BatchNorm = Literal["batch", "frozen"]
BATCH_NORMS: tuple[BatchNorm, ...] = get_args(BatchNorm)
# Of a frozen network these would do nothing.
OF_A_TRAINED_NETWORK = ("micro_batch", "batch_norm", "checkpointing", "augment")


@dataclass(frozen=True)
class Training:
    """The options, all off by default; docs/scale.md says when each pays.

    Attributes
    ----------
    tf32: on a CUDA device, let float32 products be rounded to TensorFloat-32. Changes scores.
    micro_batch: images that go through the network with a graph at once; an episode of more gets
        the same gradients from two passes. None: all at once.
    batch_norm: what batch norms normalise with while the network is trained: `batch`, the
        statistics of the images at hand, or `frozen`, the running ones, which then stay as they
        are. Changes scores. None: `frozen` with `micro_batch`, else `batch`.
    checkpointing: keep the inputs of the network's blocks alone and compute each block again when
        its gradient is due.
    compile: compile the network with torch.compile.
    image_cache: keep decoded images on disk. None: where the network is trained.
    augment: how training images are changed at random, of AUGMENTATIONS. Changes scores.
    """

    tf32: bool = False
    micro_batch: int | None = None
    batch_norm: BatchNorm | None = None
    checkpointing: bool = False
    compile: bool = False
    image_cache: bool | None = None
    augment: tuple[Augmentation, ...] = ()

    @property
    def frozen_norms(self) -> bool:
        """Whether batch norms keep and use their running statistics in training."""
        return self.batch_norm == "frozen" or (self.batch_norm is None and bool(self.micro_batch))

    def check(self, mode: str) -> None:
        """BenchError for options that are wrong, or that do nothing with features of this mode."""
        asked = [f.name for f in fields(self) if getattr(self, f.name) != getattr(PLAIN, f.name)]
        idle = [
            n for n in asked if mode == "stored" or (mode == "live" and n in OF_A_TRAINED_NETWORK)
        ]
        if idle:
            option = option_of(idle[0])
            raise BenchError(
                f"{option} does nothing with {mode} features",
                expected="--features end-to-end"
                + ("" if idle[0] in OF_A_TRAINED_NETWORK else " or live")
                + f" beside {option}",
                found=f"--features {mode}",
                remedy=f"leave {option} out, or train the backbone with --features end-to-end",
            )
        if self.micro_batch is not None and (
            type(self.micro_batch) is not int or self.micro_batch < 1
        ):
            raise BenchError(
                "a micro-batch has at least one image",
                expected="a whole number from 1",
                found=repr(self.micro_batch),
                remedy="correct --micro-batch",
            )
        if self.batch_norm not in (None, *BATCH_NORMS):
            raise unknown_name("kind of batch norm", str(self.batch_norm), BATCH_NORMS)
        for name in self.augment:
            if name not in AUGMENTATIONS:
                raise unknown_name("augmentation", name, AUGMENTATIONS)
        if self.micro_batch and self.batch_norm == "batch":
            raise BenchError(
                "--micro-batch can't give batch norms the statistics of the whole batch",
                expected="--batch-norm frozen (the default with --micro-batch)",
                found="--batch-norm batch",
                remedy="leave --batch-norm out, or save memory with --checkpointing, which keeps "
                "the statistics of the whole batch",
            )
        if self.compile and self.checkpointing:
            raise BenchError(
                "--compile and --checkpointing don't go together",
                expected="one of the two",
                found="both",
                remedy="use --micro-batch to save memory beside --compile",
            )


PLAIN = Training()


def option_of(name: str) -> str:
    """The command line's name of a field.

    >>> option_of("micro_batch")
    '--micro-batch'
    """
    return "--" + name.replace("_", "-")


def parse_augmentations(text: str) -> tuple[Augmentation, ...]:
    """`translate,flip` as a tuple in the order of AUGMENTATIONS; BenchError for others.

    >>> parse_augmentations("flip,translate")
    ('translate', 'flip')
    """
    return in_order([part.strip() for part in text.split(",") if part.strip()])


def in_order(names: Sequence[str]) -> tuple[Augmentation, ...]:
    """These augmentations once each, in one order, so that equal choices are equal."""
    for name in names:
        if name not in AUGMENTATIONS:
            raise unknown_name("augmentation", name, AUGMENTATIONS)
    return tuple(one for one in AUGMENTATIONS if one in names)
