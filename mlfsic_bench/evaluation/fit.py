"""Fit a method on base and val, save what it learnt, and load it afresh for the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlfsic_bench import distributed
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.identity import fit_key, identity
from mlfsic_bench.evaluation.inputs import Inputs, Log
from mlfsic_bench.evaluation.parts import endless_episodes, fixed_episodes
from mlfsic_bench.evaluation.record import CHECKPOINTS, METHOD
from mlfsic_bench.files import copy_file, make_folder
from mlfsic_bench.methods.calls import method_call
from mlfsic_bench.methods.contract import FitContext, TrainingPart
from mlfsic_bench.methods.limited import limited_to
from mlfsic_bench.methods.saved_state import EXPECTED, ready_to_save, wrong_in_state
from mlfsic_bench.paths import exists
from mlfsic_bench.plugins.foreign import ours
from mlfsic_bench.randomness import stream_seed
from mlfsic_bench.training.history import HISTORY_FILE
from mlfsic_bench.training.loop import load_checkpoint, save_checkpoint
from mlfsic_bench.training.together import training_together

if TYPE_CHECKING:
    from mlfsic_bench.evaluation.parts import Selection
    from mlfsic_bench.features.sources import FeatureSource
    from mlfsic_bench.methods.contract import Method

FIT = "fit"  # what process 0 of several orders


def fitted_method(
    inputs: Inputs,
    wanted: Sequence[str],
    folder: Path,
    key: str,
    log: Log,
    fitted: Path | None = None,
) -> tuple[Method, FeatureSource]:
    """(method, source of the images `wanted`), both as `method.pt` in the run's folder says.

    Without a `method.pt` the method is fitted first, or taken from the run in the folder `fitted`,
    where that is the very same fit. What is evaluated is always a fresh method with the saved state
    loaded, so a run that was interrupted can't differ from one that was not.
    """
    path = folder.absolute() / METHOD
    if not exists(path):
        fit = fit_key(identity(inputs))
        taken = _taken(fitted, folder, fit, log) if fitted and inputs.selection else None
        content = taken or fit_method(inputs, folder / CHECKPOINTS, log)
        save_checkpoint(path, {"key": key, "fit": fit, **content})
    return load_method(inputs, wanted, folder, key, log)


def load_method(
    inputs: Inputs, wanted: Sequence[str], folder: Path, key: str, log: Log
) -> tuple[Method, FeatureSource]:
    """`fitted_method` where the run's folder has a `method.pt`."""
    path = folder.absolute() / METHOD
    content = load_checkpoint(path)
    if content.get("key") != key or not {"method", "source"} <= set(content):
        raise BenchError(
            f"{path} belongs to another run",
            expected=f"the state of the run with key {key[:12]}",
            found=str(content.get("key"))[:12],
            remedy="delete that file to fit again",
        )
    method = inputs.make_method()
    source = inputs.open_source(wanted, (), log)
    source.load_state(content["source"])
    source.train(False)
    with method_call(method.name, "while loading its state"):
        method.load_state(content["method"])
    return method, source


def _taken(fitted: Path, folder: Path, fit: str, log: Log) -> dict[str, Any] | None:
    """What the run in `fitted` learnt and the history of it; None where that is another fit."""
    if not exists(fitted / METHOD):
        return None
    content = load_checkpoint(fitted / METHOD)
    if content.get("fit") != fit:
        return None
    log(f"taking what {fitted.name} learnt: the same fit")
    history = fitted / CHECKPOINTS / HISTORY_FILE
    if exists(history):
        copy_file(history, folder / CHECKPOINTS / HISTORY_FILE)
    return {name: content[name] for name in ("method", "source")}


def fit_method(inputs: Inputs, checkpoints: Path | None, log: Log) -> dict[str, Any]:
    """Fit `inputs.method`; what it and the source have learnt.

    Several processes fit it together where it says so: process 0, which keeps the `checkpoints`,
    and the others, which have none. Else only process 0 comes here.
    """
    method, selection = inputs.method, inputs.selection
    if selection is None:
        # A method that does not train is not fitted: it would ask for features of the base part.
        return {"method": _state(method), "source": {}}
    base, val = training_parts(inputs, log)
    source = base.images.source
    context = FitContext(
        seed=stream_seed("fit", inputs.split.hash, inputs.seed),
        folder=checkpoints.absolute() if checkpoints else None,
        log=ours(log),
    )
    if checkpoints:
        make_folder(checkpoints)
    images = [part.images for part in (base, val) if part is not None]
    together: AbstractContextManager[None] = nullcontext()
    if method.fits_together:
        distributed.lead(FIT)
        together = training_together(inputs.device)
    elif distributed.count() > 1:
        log("note: process 0 alone trains this method; extraction and evaluation are divided")
    with together, method_call(method.name, "while fitting"), limited_to(*images):
        method.fit(base, val, context)
    return {"method": _state(method), "source": ready_to_save(source.state())}


def training_parts(inputs: Inputs, log: Log) -> tuple[TrainingPart, TrainingPart | None]:
    """The base and the val part with their features, as `fit` gets them; no val where none is.

    `inputs` are those of a method that trains.
    """
    selection = inputs.selection
    assert selection is not None
    source = inputs.open_source(selection.base.image_ids, selection.base.image_ids, log)
    view = inputs.view(selection.base, f"train/{inputs.seed}", source)
    base = view.training_part(
        endless_episodes(selection.base, inputs.split.hash, inputs.seed), None
    )
    return base, _val_part(inputs, selection, log)


def _val_part(inputs: Inputs, selection: Selection, log: Log) -> TrainingPart | None:
    if selection.val is None:
        return None
    wanted = sorted({i for e in selection.episodes for i in (*e.support, *e.query)})
    source = inputs.open_source(wanted, selection.val.image_ids, log)
    view = inputs.view(selection.val, "val", source)
    return view.training_part(fixed_episodes(selection.episodes), len(selection.episodes))


def _state(method: Method) -> dict[str, Any]:
    with method_call(method.name, "while giving its state"):
        state = method.state()
        found = wrong_in_state(state)
        if found:
            raise BenchError(
                f"the method {method.name!r} gave a state that can't be saved",
                expected=EXPECTED,
                found=found,
                remedy="turn what it learnt into tensors; mlfsic-bench methods check explains",
            )
        return ready_to_save(state)
