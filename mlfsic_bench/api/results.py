"""Results in Python: opened, summed up, put in tables, compared, saved."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from mlfsic_bench.analysis import compare as comparing
from mlfsic_bench.analysis import paper_table
from mlfsic_bench.analysis.paper_table import Interval, PaperTable
from mlfsic_bench.errors import BenchError, described, unknown_name
from mlfsic_bench.evaluation.plan import default_folder
from mlfsic_bench.evaluation.record import RECORD, read_record
from mlfsic_bench.files import cannot_write, copy_file, make_folder
from mlfsic_bench.paths import exists, files_below, folders_with, is_folder, same_place
from mlfsic_bench.results.conditions import Seeds
from mlfsic_bench.results.result import Result, open_result
from mlfsic_bench.results.table import aligned
from mlfsic_bench.results.targets import SplitPlace, to_dataframe

if TYPE_CHECKING:
    from pandas import DataFrame

    from mlfsic_bench.analysis.compare import CompareReport

PathLike = str | Path
Writer = TypeVar("Writer")
Form = Literal["text", "markdown", "latex", "csv", "json", "html"]
HEADLINE = ("macro_ap", "micro_ap")


@dataclass(frozen=True, eq=False, repr=False)
class Results:
    """Opened results, one for each method and training seed.

    `evaluate` and `load_results` give them; two are put together with `+`.

    Attributes
    ----------
    results: each a `Result`, with `.path`, `.method`, `.seed`, `.record` and `.scores`.
    place: where split and episodes are found, if the results do not say.
    left_out: a line for each run that has not ended well.

    >>> import mlfsic_bench as mb
    >>> results = mb.evaluate("protonet", split="scenes-12-6-6-v1", backbone="scenes-small",
    ...                       episodes=5, seeds=[0])
    >>> len(results), results.results[0].method.name, results.results[0].scores.scores.shape
    (1, 'protonet', (5, 24, 6))
    >>> results.summary(["macro_ap"]).columns.tolist()
    ['seeds', 'episodes', 'macro_ap', 'macro_ap ±']
    """

    results: tuple[Result, ...]
    place: SplitPlace = field(default_factory=SplitPlace)
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __add__(self, other: Results) -> Results:
        if not isinstance(other, Results):
            return NotImplemented
        return gathered([self, other])

    def __repr__(self) -> str:
        rows = [("method", "seed", "split", "episodes", "folder or file")]
        rows += [
            (r.method.name, str(r.seed), r.meta.split.id, str(r.meta.episodes.count), str(r.path))
            for r in self.results
        ]
        return "\n".join([*aligned(rows, left=(0, 2, 4)), *self.left_out])

    def _repr_html_(self) -> str:
        return self.table("html")

    @property
    def paths(self) -> tuple[Path, ...]:
        """The folders of the runs, and the scores files."""
        return tuple(result.path for result in self.results)

    def summary(
        self,
        metrics: Sequence[str] = HEADLINE,
        *,
        seeds: Seeds = "mean",
        interval: Interval = "images",
    ) -> DataFrame:
        """A row for each method: means over episodes and training seeds, in per cent.

        Columns: seeds, episodes (their number), and two for each metric: its name, and the half
        width of its 95 % interval (`macro_ap ±`), if intervals are wanted. Where the results make
        several tables, `table` has the title of the row's.

        Parameters
        ----------
        metrics: names of metrics; `mlfsic_bench.metrics.METRICS` for all of them.
        seeds: `mean` for one row a method, `each` for one row a training seed.
        interval: what the intervals are over: `images`, `episodes`, `seeds` or `none`.
        """
        import pandas as pd

        rows = []
        metrics = (metrics,) if isinstance(metrics, str) else metrics
        tables = self._tables(metrics, seeds, interval)
        for one in tables:
            for row in one.rows:
                cells: dict[str, object] = {
                    "method": row.name,
                    "seeds": "+".join(str(seed) for seed in row.seeds),
                    "episodes": one.episodes,
                }
                if len(tables) > 1:
                    cells["table"] = one.title
                for metric, value in zip(one.columns, row.values, strict=True):
                    cells[metric] = value.mean
                    if interval != "none":
                        cells[f"{metric} ±"] = value.half_width
                rows.append(cells)
        frame = pd.DataFrame(rows).set_index("method")
        numbers = [name for name in frame if name not in ("seeds", "episodes", "table")]
        return frame.astype(dict.fromkeys(numbers, "float64"))

    def to_dataframe(self, metrics: Sequence[str] | None = None) -> DataFrame:
        """In long form: a row for each method, seed, episode and metric (None: all metrics).

        Columns: split, method, seed, episode (from 0), metric, value (a fraction; NaN where
        undefined).
        """
        return to_dataframe(self.results, metrics, self.place)

    def table(
        self,
        form: Form = "text",
        *,
        columns: Sequence[str] | None = None,
        seeds: Seeds = "mean",
        interval: Interval = "images",
        order: str = "given",
        published: bool = False,
    ) -> str:
        """The table that `mlfsic-bench table` prints; the parameters are its options."""
        tables = self._tables(columns, seeds, interval, order, published)
        return _written(paper_table.WRITERS, form)(tables, self.left_out)

    def compare(
        self,
        metrics: Sequence[str] = ("macro_ap",),
        *,
        against: str | None = None,
        seeds: Seeds = "mean",
    ) -> Comparison:
        """These methods compared with each other, as `mlfsic_bench.compare` does."""
        return compare([self], metrics=metrics, against=against, seeds=seeds)

    def save(self, folder: PathLike = "runs") -> tuple[Path, ...]:
        """Copy the runs to where the command line would have put them; their folders there.

        Each goes to `<folder>/<method>-<split>-<key>`. What is there already is left as it is when
        it is that run; BenchError, and nothing copied, when it is anything else. A scores file of
        another program is copied under its name.
        """
        places = [Path(folder) / self._name(result) for result in self.results]
        missing = [_missing(r, place) for r, place in zip(self.results, places, strict=True)]
        for result, place, to_do in zip(self.results, places, missing, strict=True):
            if to_do:
                _copy(result, place)
        return tuple(places)

    def _tables(
        self,
        columns: Sequence[str] | None,
        seeds: Seeds,
        interval: Interval,
        order: str = "given",
        published: bool = False,
    ) -> list[PaperTable]:
        return paper_table.tables_of(
            self.results,
            self.place,
            columns=columns,
            seeds=seeds,
            interval=interval,
            order=order,
            published=published,
        )

    @staticmethod
    def _name(result: Result) -> str:
        if result.record is None:
            return result.path.name
        split = result.meta.split
        key = result.record.key
        return default_folder(result.method.name, split.id, split.subset, key).name


def _missing(result: Result, place: Path) -> bool:
    """Whether the result is to be copied to `place`; BenchError where something else lies there."""
    if not exists(place) or same_place(place, result.path):
        return not exists(place)
    if is_folder(place) and exists(place / RECORD) and result.record is not None:
        there = read_record(place)
        if (there.key, there.status) == (result.record.key, "success"):
            return False
    elif not is_folder(place) and open_result(place).sha256 == result.sha256:
        return False
    raise BenchError(
        f"{place} is there already and is not this run",
        expected="nothing there, or the same run",
        found="another run, or files that are no run" if is_folder(place) else "another file",
        remedy="save to another folder, or move what is there",
    )


def _copy(result: Result, place: Path) -> None:
    """Copy a scores file or a run's folder, which appears in its place when it is whole."""
    make_folder(place.parent)
    if result.record is None:
        copy_file(result.path, place)
        return
    begun = place.with_name(f".{place.name}.saving")
    shutil.rmtree(begun, ignore_errors=True)
    for file in files_below(result.path):
        copy_file(file, begun / file.relative_to(result.path))
    try:
        begun.rename(place)
    except OSError as error:
        raise cannot_write(place, error) from error


def load_results(
    paths: PathLike | Iterable[PathLike],
    *,
    split: str | None = None,
    data_root: PathLike | None = None,
    episodes_file: PathLike | None = None,
) -> Results:
    """The results in these places; runs that have not ended well are left out, and said.

    Parameters
    ----------
    paths: the folder of a run, a folder with runs in it, a scores file, or several of them. They
        stay in this order; those of one folder are sorted by method and seed.
    split, data_root, episodes_file: where split and episodes are found, for results that do not say
        so themselves, such as scores files of other programs.

    Raises BenchError for files that are not sound, and when no result is left.

    >>> import tempfile
    >>> import mlfsic_bench as mb
    >>> done = mb.evaluate("random", split="scenes-12-6-6-v1", backbone="scenes-small",
    ...                    episodes=5, seeds=[0, 1])
    >>> with tempfile.TemporaryDirectory() as runs:
    ...     folders = done.save(runs)
    ...     results = mb.load_results(runs)
    >>> [(result.method.name, result.seed) for result in results]
    [('random', 0), ('random', 1)]
    """
    given = [paths] if isinstance(paths, (str, Path)) else paths
    if not isinstance(given, Iterable):
        raise _no_place(given)
    found: dict[Path, int] = {}  # and which of those given it comes from
    for i, one in enumerate(given):
        if not isinstance(one, (str, Path)):
            raise _no_place(one)
        path = Path(one)
        of_runs = is_folder(path) and not exists(path / RECORD)
        inside = folders_with(path, RECORD) if of_runs else []
        found |= dict.fromkeys(inside or [path], i)
    results, left_out = paper_table.open_finished(list(found))
    results.sort(key=lambda result: (found[result.path], result.method.name, result.seed))
    root, file = (None if one is None else Path(one) for one in (data_root, episodes_file))
    place = SplitPlace(split, root, file)
    return Results(tuple(results), place, tuple(left_out))


def gathered(given: Results | Result | PathLike | Iterable[object]) -> Results:
    """All these results as one, each once; BenchError for what is no result."""
    if isinstance(given, Results):
        return given
    if isinstance(given, (str, Path)):
        return load_results(given)
    if isinstance(given, Result):
        return Results((given,))
    if not isinstance(given, Iterable):
        raise _no_place(given)
    parts = [gathered(one) for one in given]  # type: ignore[arg-type]
    found = {result.path: result for part in parts for result in part.results}
    place = next((part.place for part in parts if part.place.named), SplitPlace())
    left_out = dict.fromkeys(line for part in parts for line in part.left_out)
    return Results(tuple(found.values()), place, tuple(left_out))


def _no_place(given: object) -> BenchError:
    return BenchError(
        "these are no results",
        expected="what mb.evaluate or mb.load_results gave, or the folder of a run, or a list",
        found=described(given),
        remedy="give results, folders or files",
    )


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """What `mlfsic-bench compare` reports: paired differences, with intervals and tests.

    `report` has everything, as fractions: `.methods`, `.metrics` and `.notes`.
    """

    report: CompareReport

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return self.text("html")

    def text(self, form: Literal["text", "markdown", "csv", "json", "html"] = "text") -> str:
        """The report as `mlfsic-bench compare` prints it."""
        return _written(comparing.WRITERS, form)(self.report)

    def to_dataframe(self) -> DataFrame:
        """A row for each metric and pair: a minus b, in per cent, with half widths and p values.

        Columns: metric, a, b, difference, episodes, images (half widths of the 95 % intervals over
        them), n, wins, ties, losses, t_p, t_holm, wilcoxon_p, wilcoxon_holm.
        """
        import pandas as pd

        rows = []
        for metric in self.report.metrics:
            for pair in metric.pairs:
                values = pair.model_dump()
                per_cent = {
                    name: None if values[key] is None else 100 * values[key]
                    for name, key in (
                        ("difference", "mean"), ("episodes", "episodes"), ("images", "images"),
                    )
                }  # fmt: skip
                rest = {k: v for k, v in values.items() if k not in ("a", "b", "mean", *per_cent)}
                rows.append({"metric": metric.metric, "a": pair.a, "b": pair.b, **per_cent, **rest})
        return pd.DataFrame(rows)


def compare(
    results: Results | Iterable[Results | Result | PathLike],
    *,
    metrics: Sequence[str] = ("macro_ap",),
    against: str | None = None,
    seeds: Seeds = "mean",
) -> Comparison:
    """Compare methods on the same episodes: every pair, or all against one.

    Parameters
    ----------
    results: what `evaluate` or `load_results` gave, folders of runs or scores files; several.
    metrics: what to compare; each has a family of pairs of its own.
    against: a method's name; all others are then compared with it.
    seeds: `mean` averages over the training seeds of a method, `each` keeps them as they are.

    Raises BenchError for fewer than two methods, and for results of other episodes or splits.

    >>> import mlfsic_bench as mb
    >>> results = mb.evaluate(["protonet", "random"], split="scenes-12-6-6-v1",
    ...                       backbone="scenes-small", episodes=5, seeds=[0])
    >>> frame = mb.compare(results).to_dataframe()
    >>> frame[["a", "b", "n"]].values.tolist()
    [['protonet', 'random', 5]]
    """
    given = gathered(results)
    report = comparing.compare(
        given.paths, given.place, metrics=metrics, against=against, seeds=seeds
    )
    return Comparison(report)


def _written(writers: dict[str, Writer], form: str) -> Writer:
    if form not in writers:
        raise unknown_name("form", form, writers)
    return writers[form]
