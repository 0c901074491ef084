"""What a trained method refuses: no label embeddings, no weights, weights of another method."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlfsic_bench.errors import BenchError

if TYPE_CHECKING:
    from torch import Tensor

LONGEST = 300  # characters of what torch says about weights that don't fit


def label_embeddings(method: str, embeddings: Tensor | None) -> Tensor:
    """The label embeddings of a part or support, for a method that can't do without."""
    if embeddings is None:
        raise BenchError(
            f"{method} needs label embeddings",
            expected="a vector for each label",
            found="none",
            remedy="name a file of word vectors with --embeddings FILE",
        )
    return embeddings


def untrained(method: str) -> BenchError:
    """The error of a method that is to adapt before it has weights."""
    return BenchError(
        f"{method} has not been trained",
        expected="fit or load_state before adapt",
        found="a method without weights",
        remedy="call fit with a base part, or load the state of a finished run",
    )


def wrong_state(method: str, found: str) -> BenchError:
    """The error of a method that is given the state of another, or of other parameters."""
    return BenchError(
        f"the saved state does not fit {method} with these parameters",
        expected="the state of a run with the same parameters",
        found=found,
        remedy="load it with the parameters it was trained with",
    )


@contextmanager
def loading_state(method: str) -> Iterator[None]:
    """Turns a missing tensor, or one of another shape, into the error `wrong_state`."""
    try:
        yield
    except (KeyError, RuntimeError) as error:
        raise wrong_state(method, " ".join(str(error).split())[:LONGEST]) from error
