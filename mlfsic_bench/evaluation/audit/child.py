"""The fresh process of an audit: it scores single episodes with a method that nothing has touched.

The process imports torch once, or was forked from a run that had done no more than that. For every
session (one method, from its saved state) it forks before any code of the method runs, so that
sessions share nothing of a method; where a system can't fork, it ends after one session. Features
come from the run through the pipe, of the asked episode alone.
"""

from __future__ import annotations

import math
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.audit.messages import Arrays, Message, receive, send
from mlfsic_bench.evaluation.predict import Chunk, adapt, adapt_all, score
from mlfsic_bench.features.compute import float32_products
from mlfsic_bench.features.live import LiveFeatures, LiveOptions
from mlfsic_bench.features.sources import FeatureSource, Shape
from mlfsic_bench.features.training_options import Training
from mlfsic_bench.methods.calls import method_call
from mlfsic_bench.methods.contract import Images, Support
from mlfsic_bench.methods.limited import LimitedFeatures
from mlfsic_bench.methods.registry import make_method
from mlfsic_bench.plugins.files import source_hash
from mlfsic_bench.training.loop import load_checkpoint

if TYPE_CHECKING:
    from mlfsic_bench.data.dataset import Dataset
    from mlfsic_bench.features.backbones.base import Backbone
    from mlfsic_bench.methods.contract import Method


FEWEST = 2  # blocks of an episode that are scored, whatever they take


@dataclass(frozen=True)
class Pipe:
    """The two ends of this process; what a method prints goes elsewhere."""

    commands: IO[bytes]
    answers: IO[bytes]

    def ask(self, kind: str, network: str, ids: Sequence[str]) -> Tensor:
        """Features, or network inputs, of these images; BenchError when the run refuses."""
        send(self.answers, {"get": kind, "network": network, "ids": list(ids)})
        head, arrays = receive(self.commands)
        if "refused" in head:
            raise BenchError(**head["refused"])
        return torch.from_numpy(arrays["features"])


class AskedFeatures(FeatureSource):
    """Frozen features that the run hands over one request at a time."""

    def __init__(self, pipe: Pipe, shape: Shape, device: torch.device) -> None:
        self.pipe, self.device = pipe, device
        self.channels, self.grid, self.dim = shape.channels, shape.grid, shape.dim
        self.vector = shape.vector

    def local(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c, h, w] on `device`."""
        return self.pipe.ask("local", "", ids).to(self.device)

    def pooled(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, d] on `device`."""
        return self.pipe.ask("pooled", "", ids).to(self.device)

    def averaged(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c] on `device`."""
        return self.pipe.ask("averaged", "", ids).to(self.device)


class AskedInputs(LiveFeatures):
    """A trainable network in this process, whose inputs the run hands over."""

    def __init__(
        self, pipe: Pipe, backbone: Backbone, device: torch.device, options: LiveOptions
    ) -> None:
        nothing = cast("Dataset", None)  # `inputs` below is all that asks for images
        super().__init__(backbone, nothing, device, trainable=True, options=options)
        self.pipe = pipe

    def prefetch(self, ids: Sequence[str]) -> None:
        """Nothing: the run has the images."""

    def _require_memory(self, images: int) -> None:
        """Nothing: the run has made sure; to estimate again would import torch's compiler."""

    def inputs(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, 3, height, width] on `device`."""
        return self.pipe.ask("inputs", self.backbone.name, ids).to(self.device)


def main() -> None:
    """Serve the run at the other end of the standard streams."""
    commands, answers = (
        os.fdopen(os.dup(number), mode, buffering=0) for number, mode in ((0, "rb"), (1, "wb"))
    )
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    serve(Pipe(commands, answers))


def serve(pipe: Pipe) -> None:
    """One session after the other, until the run closes its end."""
    while True:
        try:
            job = receive(pipe.commands)
        except EOFError:
            return
        if not hasattr(os, "fork"):
            _session(pipe, *job)
            return
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _session(pipe, *job)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        send(pipe.answers, {"ended": os.waitstatus_to_exitcode(status)})


def _session(pipe: Pipe, job: dict[str, Any], arrays: Arrays) -> None:
    """Answer the commands of one session; an error is an answer too."""
    tf32 = job["tf32"]
    with nullcontext() if tf32 is None else float32_products(tf32):
        _answer(pipe, job, arrays)


def _answer(pipe: Pipe, job: dict[str, Any], arrays: Arrays) -> None:
    try:
        method, source = _loaded(pipe, job)
        send(pipe.answers, {"ready": True})
        embeddings = (
            torch.from_numpy(arrays["embeddings"]).to(source.device)
            if "embeddings" in arrays
            else None
        )
        while True:
            command = receive(pipe.commands)
            if command[0].get("end"):
                return
            _mind(job)
            send(pipe.answers, {"scored": True}, _score(method, source, job, embeddings, command))
    except EOFError:
        return
    except BenchError as error:
        send(pipe.answers, {"error": error.what, "found": error.found})


def _loaded(pipe: Pipe, job: dict[str, Any]) -> tuple[Method, FeatureSource]:
    """The method as its saved state says, and where its features come from."""
    _mind(job)
    os.chdir(job["folder"])
    sys.path[:] = job["path"]
    torch.set_num_threads(job["threads"])
    _scatter_globals()
    method = make_method(job["method"], job["settings"], job["preset"])
    found = source_hash(job["method"])
    if found != job["source"]:
        raise BenchError(
            f"the code of the method {method.name!r} is no longer that of the run",
            expected=job["source"],
            found=found,
            remedy="run again: changed code is another run",
        )
    source = _source(pipe, job)
    content = load_checkpoint(Path(job["state"]))
    source.load_state(content["source"])
    source.train(False)
    with method_call(method.name, "while loading its state in a fresh process"):
        method.load_state(content["method"])
    return method, source


def _source(pipe: Pipe, job: dict[str, Any]) -> FeatureSource:
    device = torch.device(job["device"])
    if not job["trainable"]:
        shape = Shape(**{**job["shape"], "grid": tuple(job["shape"]["grid"])})
        asked = AskedFeatures(pipe, shape, device)
        return LimitedFeatures(asked)
    from mlfsic_bench.features.backbones.registry import build_backbones
    from mlfsic_bench.features.sources import join

    backbones = build_backbones(*job["trainable"])
    said = job["training"] | {"augment": tuple(job["training"]["augment"])}
    options = LiveOptions(Training(**said), job["precision"])
    made = [AskedInputs(pipe, one, device, options) for one in backbones]
    return LimitedFeatures(join(backbones, made))


def _score(
    method: Method,
    source: FeatureSource,
    job: dict[str, Any],
    embeddings: Tensor | None,
    command: Message,
) -> dict[str, np.ndarray[Any, Any]]:
    """`scores` [n, L] and perhaps `decisions` of the command's blocks of query images, in order.

    Blocks are left out at the end when the command's seconds have passed, but for the first FEWEST.
    """
    head, arrays = command
    end = time.monotonic() + head["seconds"] if head["seconds"] is not None else math.inf
    labels, first, which = tuple(job["labels"]), head["first"], head["which"]
    supports = [
        Support(
            images=Images(tuple(ids), source),
            targets=torch.from_numpy(arrays[f"targets{i}"]).to(source.device),
            labels=labels,
            embeddings=embeddings,
            seed=head["seeds"][i],
        )
        for i, ids in enumerate(head["supports"])
    ]
    if head["together"]:
        predictors = adapt_all(method, supports, first)
    else:
        predictors = [adapt(method, one, number) for number, one in enumerate(supports, first)]
    given: list[Chunk] = []
    for block in head["blocks"]:
        if len(given) >= FEWEST and time.monotonic() > end:
            break
        query = Images(tuple(block), source)
        images = supports[which].images
        given.append(
            score(method.name, first + which, predictors[which], images, query, len(labels))
        )
    answer = {"scores": np.concatenate([scores for scores, _ in given])}
    decided = [decisions for _, decisions in given if decisions is not None]
    if len(decided) == len(given):
        answer["decisions"] = np.concatenate(decided)
    return answer


def _mind(job: dict[str, Any]) -> None:
    """End this process should it hang when the run that waits for it has been killed."""
    if hasattr(signal, "alarm"):
        signal.alarm(int(job["limit_s"]) + 60)


def _scatter_globals() -> None:
    """Give each session other global random states, so that what is drawn from them shows."""
    seed = int.from_bytes(os.urandom(4), "little")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the legacy generator is one that methods draw from
    torch.manual_seed(seed)


if __name__ == "__main__":
    main()
