"""Episodes from a file of whichever protocol: its key `schema` says which."""

from __future__ import annotations

from pathlib import Path

from mlfsic_bench.episodes.episode import EpisodeSet
from mlfsic_bench.episodes.files import check_belongs, parse_episode_set
from mlfsic_bench.episodes.published_runs import FORMAT
from mlfsic_bench.episodes.run_files import SCHEMA, parse_runs, runs_for
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import read_json
from mlfsic_bench.splits.split import Split


def read_any(path: Path, split: Split) -> EpisodeSet:
    """The episodes of `one_per_label` or the runs of `laso_k_shot` in a file, checked on the split.

    BenchError for a file of neither, an unsound one, and one that does not belong to the split.
    """
    raw = read_json(path, kind="episode file")
    if isinstance(raw, dict) and raw.get("schema") == SCHEMA:
        return runs_for(parse_runs(raw, str(path)), split, str(path))
    if isinstance(raw, dict) and raw.get("format") == FORMAT:
        raise BenchError(
            f"{path} holds indices into an annotation file, not image ids",
            expected="an episode file",
            found=f"format {FORMAT!r}",
            remedy=f"turn it into one: mlfsic-bench episodes import {split.id} {path} --out FILE",
        )
    episodes = parse_episode_set(raw, str(path))
    check_belongs(episodes, split, str(path))
    return episodes
