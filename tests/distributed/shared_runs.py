"""What the processes of a test do: a fake run, an extraction, a command under torchrun's agent."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mlfsic_bench import distributed, progress, team
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation import predict, runner
from mlfsic_bench.evaluation.inputs import Inputs
from mlfsic_bench.evaluation.record import Audit
from mlfsic_bench.evaluation.runner import execute
from mlfsic_bench.features import live as live_features
from mlfsic_bench.features import sharing
from mlfsic_bench.features.extract import extract
from mlfsic_bench.features.live import LiveFeatures, LiveOptions
from mlfsic_bench.features.store import writer
from mlfsic_bench.features.training_options import BatchNorm, Training
from mlfsic_bench.methods.contract import Predictor, Support
from mlfsic_bench.methods.limited import LimitedFeatures
from mlfsic_bench.methods.word_guided.method import WordGuidedAttentionMethod
from mlfsic_bench.signals import stoppable
from mlfsic_bench.training import together
from tests.fakes.processes import die_at
from tests.fakes.world import Mean, fake_inputs
from tests.features.feature_fakes import FolderDataset, image_of, picked_backbone, small_backbone

# name -> what is called when a process is killed there
PLACES = {
    "training": (together, "_all"),
    "evaluation": (predict, "_write"),
    "extraction": (writer.StoreWriter, "add"),
}
Kill = tuple[int, str, int]  # of which process, where, at which call


def _as_program(work: object, kill: Kill | None = None) -> None:
    """Call `work` as the program would: the first process prints an error, and all exit by it."""
    if kill is not None and os.environ["RANK"] == str(kill[0]):
        die_at(*PLACES[kill[1]], kill[2])
    distributed.silent()
    try:
        with stoppable(), distributed.together():
            work()  # type: ignore[operator]
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


SETTINGS = {
    "d_j": 8, "d_mlp": 8, "n_a": 2, "epochs": 2, "warmup_epochs": 1, "steps_per_epoch": 4,
    "select_every": 1, "episodes_per_step": 4,
}  # fmt: skip


def fake_run(folder: Path, kill: Kill | None = None, norms: BatchNorm | None = None) -> None:
    """Train on fake features, four episodes a step, select on eight, score 90.

    With `norms` a network of convolutions and batch norms is trained end to end on images.
    """
    progress.SECONDS = 0.0  # a line for every piece of work

    def work() -> None:
        inputs = fake_inputs(WordGuidedAttentionMethod, SETTINGS, episodes=90, embeddings=True)
        assert inputs.selection is not None
        selection = dataclasses.replace(inputs.selection, episodes=inputs.selection.episodes[:8])
        inputs = dataclasses.replace(inputs, selection=selection)
        execute(inputs if norms is None else _end_to_end(inputs, norms), folder, _print)

    _as_program(work, kill)


class Noise(FolderDataset):
    """Images of pixels that follow from their names, in no folder."""

    def image_bytes(self, image_id: str) -> bytes:
        return image_of(image_id)


def _end_to_end(inputs: Inputs, norms: BatchNorm) -> Inputs:
    # an estimate of memory imports torch's compiler, which takes ten times as long as the training
    live_features.footprint = lambda backbone: None  # type: ignore[assignment]
    options = LiveOptions(Training(batch_norm=norms), workers=1)
    live = LiveFeatures(small_backbone(), Noise(Path()), trainable=True, options=options)
    source = LimitedFeatures(live)
    return dataclasses.replace(inputs, open_source=lambda wanted, others, log: source)


def disagree(folder: Path) -> None:
    """Every process opens another run."""
    _as_program(lambda: execute(fake_inputs(seed=distributed.number()), folder))


def go_on(folder: Path, first: Callable[[], Inputs] | None = None) -> None:
    """An error ends a run in all processes, and they begin the next one, as `run A B` does."""

    def work() -> None:
        try:
            execute(first() if first is not None else fake_inputs(seed=1), folder)
        except BenchError as error:
            _print(f"FAILED: {error}")
        execute(fake_inputs(seed=2), folder.with_name("next"))

    _as_program(work)


class Faulty(Mean):
    """Fails in one process, and is slow in the others: each process has something to do."""

    def adapt(self, support: Support) -> Predictor:
        """No predictor."""
        if distributed.number() == int(self.params.scale):
            raise ValueError("it can't adapt")
        time.sleep(0.02)
        return super().adapt(support)


def fails_in(number: int) -> Inputs:
    """Inputs of a run whose method fails in that process while it is evaluated."""
    return fake_inputs(Faulty, {"scale": float(number)}, episodes=90)


def differs() -> Inputs:
    """Inputs of another run in every process."""
    return fake_inputs(seed=distributed.number())


def leave(folder: Path) -> None:
    """Process 0 finds that there is nothing to do."""
    team.GRACE = 1.0

    def work() -> None:
        if distributed.number():
            execute(fake_inputs(), folder)

    _as_program(work)


def fail(folder: Path, number: int) -> None:
    """One process meets an error of which the others know nothing."""

    def work() -> None:
        if distributed.number() == number:
            raise ValueError("something unforeseen")
        distributed.agree("nothing", "")

    _as_program(work)


def statistics(folder: Path) -> None:
    """Even out running statistics; each process keeps what it has afterwards."""

    def work() -> None:
        own = float(distributed.number())
        state = {"net.running_mean": torch.tensor([own, 3.0]), "net.weight": torch.tensor(own)}
        with together.training_together(torch.device("cpu")):
            together.even_out(lambda: state, lambda new: _print(str(new)))
        (folder / f"{distributed.number()}.txt").write_text(str(state))

    _as_program(work)


def extraction(images: Path, store: Path, kill: Kill | None = None) -> None:
    """Extract features of all images in batches of two; slow in process 0, which holds the lock.

    The last line of `helped` beside the store counts the batches that another process has made.
    """
    dataset = FolderDataset(images)
    open_image, write_arrays, helped = dataset.open_image, sharing.write_arrays, 0

    def slow(image_id: str) -> object:
        time.sleep(0.0 if distributed.number() else 0.05)
        return open_image(image_id)

    def counted(*given: Any) -> None:
        nonlocal helped
        helped += 1
        store.with_suffix(".helped").write_text(str(helped))
        write_arrays(*given)

    dataset.open_image = slow  # type: ignore[assignment, method-assign]
    sharing.write_arrays = counted  # type: ignore[assignment]
    ids = dataset.annotations().image_ids

    def work() -> None:
        distributed.wait_for(lambda: not distributed.number() or bool(sharing.wanted_now()))
        extract(dataset, ids, picked_backbone(), store, batch_size=2, workers=1, log=_print)

    _as_program(work, kill)


def _print(line: str) -> None:
    print(line, file=sys.stderr)


def torchrun(count: int, folder: Path, arguments: list[str]) -> None:
    """What `torchrun --nproc-per-node COUNT -m mlfsic_bench ARGUMENTS` does, with forks."""
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0", start_method="fork", monitor_interval=0.1,
    )  # fmt: skip
    elastic_launch(config, _program)(folder, arguments)


def _program(folder: Path, arguments: list[str]) -> None:
    from mlfsic_bench.cli.main import main

    runner.audit_run = lambda *given: Audit(status="not made")  # type: ignore[assignment]
    sys.stdout = sys.stderr = (folder / f"{os.environ['RANK']}.log").open("w", buffering=1)
    main(arguments)
