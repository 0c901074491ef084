"""Files of `laso_k_shot` runs: support ids only, one run a line; the query follows from the split.

    schema, split_id, split_hash, protocol, part, shots, support_from, query_from, drawn, count,
    runs, hash

`drawn` says whether the law drew the runs from the split with `split_hash`, or somebody gave them.
A file serves every copy of its split whose annotations still give each label its K images: then
the annotations may differ from those it was drawn from, and drawing anew would give other runs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlfsic_bench.episodes.episode import EpisodeSet
from mlfsic_bench.episodes.hashed_json import FileKind, shipped_folder
from mlfsic_bench.episodes.laso import PART, RUNS, check_runs, drawn_supports, run_set, sample_runs
from mlfsic_bench.episodes.laso_law import PROTOCOL, QUERY_FROM, SUPPORT_FROM
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import read_json, write_bytes
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.paths import is_file
from mlfsic_bench.schema import is_plain
from mlfsic_bench.splits.split import Split

SCHEMA = "mlfsic-bench/runs-v1"
FIXED = {
    "schema": SCHEMA,
    "protocol": PROTOCOL,
    "part": PART,
    "support_from": SUPPORT_FROM,
    "query_from": QUERY_FROM,
}
KEYS = (
    "schema", "split_id", "split_hash", "protocol", "part", "shots", "support_from",
    "query_from", "drawn", "count", "runs", "hash",
)  # fmt: skip
KIND = FileKind(
    what="file of runs",
    keys=KEYS,
    fixed=FIXED,
    listed="runs",
    remedy="make the file anew with `mlfsic-bench episodes sample --protocol laso_k_shot`, or "
    "`mlfsic-bench episodes import`",
    shown=80,
)


@dataclass(frozen=True)
class RunFile:
    """The content of a file of runs.

    Attributes
    ----------
    split_id, split_hash: the split they were drawn from, or checked against when they were given.
    shots: K.
    drawn: whether the law of `laso_law.py` drew them.
    runs: the support image ids of each run.
    """

    split_id: str
    split_hash: str
    shots: int
    drawn: bool
    runs: tuple[tuple[str, ...], ...]

    def body(self) -> dict[str, Any]:
        """All keys of the file but the hash."""
        return {
            **FIXED,
            "split_id": self.split_id,
            "split_hash": self.split_hash,
            "shots": self.shots,
            "drawn": self.drawn,
            "count": len(self.runs),
            "runs": [list(run) for run in self.runs],
        }

    @property
    def hash(self) -> str:
        """SHA-256 over the canonical JSON of `body`."""
        return hash_json(self.body())


def sampled_file(split: Split, shots: int, count: int = RUNS) -> RunFile:
    """Runs 0 to count - 1 of the law, as a file's content."""
    runs = drawn_supports(split, shots, count)
    return RunFile(split.id, split.hash, shots, True, tuple(runs))


def format_runs(content: RunFile) -> bytes:
    """The bytes of the file: keys in a fixed order, one run a line, UTF-8."""
    return KIND.format(content.body(), content.hash)


def write_runs(content: RunFile, path: Path) -> None:
    """Write a file of runs atomically."""
    write_bytes(path, format_runs(content))


def read_runs(path: Path) -> RunFile:
    """The content of a file of runs, checked by itself: keys, counts, hash, no image twice."""
    return parse_runs(read_json(path, kind="file of runs"), str(path))


def parse_runs(raw: Any, name: str) -> RunFile:
    """The content of the JSON value of the file called `name`, checked like `read_runs`."""
    raw = KIND.check_head(raw, name)
    if not isinstance(raw["drawn"], bool):
        raise KIND.wrong(name, "true or false for 'drawn'", repr(raw["drawn"])[:80])
    runs = image_lists(raw["runs"], name)
    content = RunFile(raw["split_id"], raw["split_hash"], shots_of(raw, name), raw["drawn"], runs)
    if type(raw["count"]) is not int or raw["count"] != len(runs):
        raise KIND.wrong(name, f"count {len(runs)}, as many as listed", repr(raw["count"])[:80])
    KIND.check_hash(raw, content.body(), name)
    return content


def shots_of(raw: dict[str, Any], name: str) -> int:
    """K in a file: a whole number, 1 or more."""
    shots = raw["shots"]
    if type(shots) is not int or shots < 1:
        raise KIND.wrong(name, "a whole number of at least 1 for 'shots'", repr(shots)[:80])
    return shots


def image_lists(value: Any, name: str) -> tuple[tuple[str, ...], ...]:
    """Runs of image ids: at least one, none empty, no image twice in a run."""
    if not isinstance(value, list) or not value:
        raise KIND.wrong(name, "a list of at least one run", repr(value)[:80])
    for number, run in enumerate(value, 1):
        if not isinstance(run, list) or not run or not all(is_plain(i) for i in run):
            raise KIND.wrong(name, "a list of image ids for each run", f"other values in {number}")
        if len(set(run)) < len(run):
            double = min(image for image, count in Counter(run).items() if count > 1)
            raise KIND.wrong(name, "each image once in a run", f"{double!r} twice in {number}")
    return tuple(tuple(run) for run in value)


def runs_for(content: RunFile, split: Split, name: str) -> EpisodeSet:
    """The episode set a file's runs are on this split; see `laso.check_runs`.

    BenchError when the file belongs to another split id, or its images do not serve here.
    """
    if content.split_id != split.id:
        raise BenchError(
            f"{name} holds runs of another split",
            expected=f"runs of split {split.id}",
            found=f"runs of split {content.split_id}",
            remedy="name the split of the runs, or draw runs for this one",
        )
    check_runs(split, content.shots, content.runs, name)
    return run_set(split, content.shots, content.runs)


def shipped_runs_name(split_id: str, shots: int) -> str:
    """The file name of a split's own runs."""
    return f"{split_id}.{shots}-shot-runs.json"


def shipped_run_files() -> list[Path]:
    """The files of runs that come with the package, by name."""
    return sorted(shipped_folder().glob("*-shot-runs.json"))


def own_runs(split: Split, shots: int) -> EpisodeSet:
    """The runs a split is tested with: those that ship for it, else drawn by the law.

    A split limited to some of its images never gets the shipped ones: its images may lack some.
    """
    name = shipped_runs_name(split.id, shots)
    path = shipped_folder() / name
    if split.subset is None and is_file(path):
        return runs_for(read_runs(path), split, name)
    return sample_runs(split, shots)
