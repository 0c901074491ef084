"""Whether the run that a command asks for is done already, told from small files alone.

To make a run's key, everything that it names is opened: split, network, features. So when a run is
done, its folder is kept by what was asked (`kept`), and the same command looks there first. Where
anything is not as it was, or what a run depends on can't be known (a dataset or a network in
somebody's own code), the answer is None and the run's inputs are opened, which decides. Nothing
heavy is imported here.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.plan import METHOD, RECORD, RunPlan
from mlfsic_bench.files import read_json
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.kept_answers import keep, recall
from mlfsic_bench.paths import Places
from mlfsic_bench.plugins.files import names_a_file

if TYPE_CHECKING:
    from mlfsic_bench.evaluation.inputs import Inputs

KIND = "asked"  # the folder in the user's cache folder
CHOICES = ("protocol", "training")  # fields of a plan that are objects of plain values


@dataclass(frozen=True)
class Finished:
    """A run that is done: its folder, and the JSON of its record."""

    folder: Path
    record: dict[str, Any]


def finished(plan: RunPlan) -> Finished | None:
    """The run that `plan` asks for, where it is known to be done; None: its inputs must tell.

    As sure as opening them: the record is the one that was checked, the scores have their hashes.
    """
    kept = recall(KIND, _question(plan))
    if not isinstance(kept, str):
        return None
    with contextlib.suppress(BenchError, OSError, KeyError, TypeError, AttributeError):
        folder = Path(kept)
        record = read_json(folder / RECORD, kind="run record")
        if all(hash_file(folder / name) == value for name, value in record["outputs"].items()):
            return Finished(folder, record)
    return None


def keep_finished(plan: RunPlan, inputs: Inputs, folder: Path, places: Places, since: int) -> None:
    """Keep that the run is done, should the same be asked again; not where that can't be sure.

    Parameters
    ----------
    inputs: what the plan was opened to.
    places, since: what was looked at on the way, and when that began (`kept_answers.keep`).
    """
    with contextlib.suppress(BenchError, KeyError, TypeError, AttributeError):
        record = read_json(folder / RECORD, kind="run record")
        sound = record["status"] == "success" and (record["audit"] or {}).get("status") != "failed"
        if sound and _all_known(plan, inputs):
            made = [folder / name for name in (RECORD, METHOD)]
            keep(KIND, _question(plan), str(folder), places, since, made)


def done_line(folder: Path, key: str, ended: object) -> str:
    """What is said of a run that is done."""
    return f"{folder} is done already: key {key[:12]}, ended {ended}"


def _question(plan: RunPlan) -> dict[str, Any]:
    """All that was asked; JSON unless the plan holds an object."""
    said: dict[str, Any] = {}
    for field in fields(plan):
        value = getattr(plan, field.name)
        if field.name in CHOICES and value is not None:
            value = [type(value).__name__, vars(value)]
        said[field.name] = str(value) if isinstance(value, Path) else value
    return said


def _all_known(plan: RunPlan, inputs: Inputs) -> bool:
    """Whether all code that looks at files for the run's key is this project's."""
    from mlfsic_bench.data.registry import DATASETS, TABLES, file_of
    from mlfsic_bench.features.backbones.registry import is_own
    from mlfsic_bench.methods.registry import METHODS

    if not isinstance(plan.method, str) or not isinstance(plan.network, str):
        return False
    dataset = str(plan.dataset or inputs.split.dataset)
    file = file_of(dataset)
    return (
        (names_a_file(plan.method) or bool(METHODS.own_place(plan.method)))
        and (file.suffix.lower() in TABLES if file else bool(DATASETS.own_place(dataset)))
        and (plan.features_pack is not None or is_own(plan.network))
    )
