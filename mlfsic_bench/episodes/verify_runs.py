"""Does a file of `laso_k_shot` runs hold what the law draws, or at least runs of its split?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlfsic_bench.episodes.run_files import format_runs, read_runs, runs_for, sampled_file
from mlfsic_bench.files import read_regular
from mlfsic_bench.splits.split import Split


@dataclass(frozen=True)
class RunsVerdict:
    """`said`: what the file was found to be; `differences`: what is wrong, empty when sound."""

    said: str
    differences: list[str]


def verify_runs(path: Path, split: Split | None) -> RunsVerdict:
    """Hold a file of runs against itself and, when there is one, against the split.

    Runs the law drew from this very split must regenerate byte for byte. Runs that were given, or
    drawn from other annotations of the split, must have images of the split and K of each label.
    Raises BenchError for a file that is unsound, or whose runs do not serve on the split.
    """
    content = read_runs(path)
    if split is None:
        return RunsVerdict("sound; not held against its split: no data root named", [])
    runs_for(content, split, str(path))
    if not content.drawn:
        return RunsVerdict("sound runs of the split; given, so not drawn anew", [])
    if content.split_hash != split.hash:
        return RunsVerdict(
            "sound runs of the split; drawn from other annotations of it, so not drawn anew", []
        )
    expected = sampled_file(split, content.shots, len(content.runs))
    if format_runs(expected) == read_regular(path):
        return RunsVerdict("regenerates byte for byte", [])
    wrong = [
        i for i, (a, b) in enumerate(zip(content.runs, expected.runs, strict=True), 1) if a != b
    ]
    what = f"runs that differ: {', '.join(map(str, wrong))}" if wrong else "same runs, other bytes"
    return RunsVerdict("differs", [what])
