"""About how long a run will take: an estimate, and what it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlfsic_bench.episodes.protocol import Protocol, find_protocol
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.record import RECORD, Record, read_record
from mlfsic_bench.experiments.plan import PlannedRun
from mlfsic_bench.experiments.schema import Rate, Rates
from mlfsic_bench.methods.contract import Method
from mlfsic_bench.paths import folders_with

NO_RATE = "no rate is known"


@dataclass(frozen=True)
class Estimate:
    """Seconds, and what the number rests on; None where nothing is known."""

    seconds: float | None
    basis: str


class Costs:
    """Estimates for the runs of one reproduction.

    Parameters
    ----------
    runs_folder: where earlier runs lie; their records are the first basis.
    rates: stated rates of this class of device, the second; None for none.
    device: `cpu` or `cuda`; records of the other class are no basis.
    base_images: size of the base part, or None where the data are not at hand.
    """

    def __init__(
        self, runs_folder: Path, rates: Rates | None, device: str, base_images: int | None
    ) -> None:
        self.rates, self.device, self.base_images = rates, device, base_images
        self._records: list[Record] = []
        for folder in folders_with(runs_folder, RECORD):
            try:
                record = read_record(folder)
            except BenchError:
                continue
            if record.status == "success" and record.provenance.device.startswith(device):
                self._records.append(record)

    def estimate(self, run: PlannedRun, method: Method) -> Estimate:
        """The time for the whole run, without the extraction of features."""
        if run.plan.features == "end-to-end":
            return Estimate(None, "nothing is known of training a backbone here")
        parameters = method.params.model_dump()
        units = self._units(parameters, run.plan.base_images)
        episodes = run.plan.episodes or _protocol(run).counts["novel"]
        rate, basis = self._measured(run, method)
        if rate is None and self.rates and method.name in self.rates.methods:
            rate, basis = self.rates.methods[method.name], self.rates.basis
        if rate is None or (units is None and rate.unit):
            return Estimate(None, basis or NO_RATE)
        each = rate.episode + _steps(parameters) * rate.step
        return Estimate((units or 0) * rate.unit + episodes * each, basis)

    def _units(self, parameters: dict[str, object], images: int | None) -> float | None:
        """Units of training: episodes, or base images seen; None where their number is unknown."""
        epochs = _number(parameters, "epochs", 0)
        if "steps_per_epoch" in parameters:
            return (
                epochs
                * _number(parameters, "steps_per_epoch", 1)
                * _number(parameters, "episodes_per_step", 1)
            )
        seen = images or self.base_images
        return None if seen is None else epochs * seen

    def _measured(self, run: PlannedRun, method: Method) -> tuple[Rate | None, str]:
        """The rate of the earlier run most like this one, of the same method and network."""
        mine = method.params.model_dump(mode="json")
        best: tuple[int, Record] | None = None
        for record in self._records:
            same = record.features is not None and record.features.backbone == run.plan.backbone
            if record.method.name != method.name or not same:
                continue
            if record.episodes.protocol != _protocol(run).id:
                continue
            other = record.method.parameters
            if bool(_steps(record.method.parameters)) != bool(_steps(mine)):
                continue
            differing = sum(other.get(key) != value for key, value in mine.items())
            if best is None or differing < best[0]:
                best = differing, record
        if best is None:
            return None, ""
        record = best[1]
        cut = record.base_images.used if record.base_images else None
        units = self._units(record.method.parameters, cut)
        seconds = {stage.name: 0.0 for stage in record.stages}
        for stage in record.stages:
            seconds[stage.name] += stage.seconds
        fit, evaluate = seconds.get("fit", 0.0), seconds.get("evaluate", 0.0)
        unit, each = fit / units if units else 0.0, evaluate / record.episodes.count
        steps = _steps(record.method.parameters)
        rate = Rate(unit=unit, step=each / steps) if steps else Rate(unit=unit, episode=each)
        return rate, f"an earlier run of {method.name} in this folder"


def total(estimates: Sequence[Estimate]) -> tuple[float, int]:
    """(seconds of all that are known, how many are not)."""
    known = [one.seconds for one in estimates if one.seconds is not None]
    return sum(known), len(estimates) - len(known)


def _protocol(run: PlannedRun) -> Protocol:
    return run.plan.protocol or find_protocol()


def _steps(parameters: dict[str, object]) -> float:
    """Fine-tuning steps in an episode, as methods call their number."""
    return _number(parameters, "tune_epochs", 0) + _number(parameters, "fine_tune_epochs", 0)


def _number(parameters: dict[str, object], name: str, default: float) -> float:
    value = parameters.get(name, default)
    return float(value) if isinstance(value, (int, float)) else default
