"""Which files the arguments of `mlfsic-bench episodes` name."""

from __future__ import annotations

from pathlib import Path

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import read_json
from mlfsic_bench.paths import exists


def files_to_verify(targets: tuple[str, ...]) -> list[Path]:
    """The files named, those shipped for the ids named, or all shipped ones."""
    from mlfsic_bench.episodes.files import shipped_files, shipped_name
    from mlfsic_bench.episodes.run_files import shipped_run_files

    shipped = {path.name: path for path in (*shipped_files(), *shipped_run_files())}
    if not targets:
        return list(shipped.values())
    chosen: list[Path] = []
    for target in targets:
        of_split = [shipped_name(target, part) for part in ("novel", "val")]
        of_split += [name for name in shipped if name.startswith(f"{target}.") and "-runs" in name]
        if any(name in shipped for name in of_split):
            chosen += [shipped[name] for name in of_split if name in shipped]
        elif exists(Path(target)):
            chosen.append(Path(target))
        else:
            ids = sorted({name.rsplit(".", 2)[0] for name in shipped})
            raise BenchError(
                f"nothing to verify under the name {target!r}",
                expected="an episode file, or a split id with shipped episodes: " + ", ".join(ids),
                found="neither",
                remedy="check the path, or draw the episodes with `mlfsic-bench episodes sample`",
            )
    return chosen


def is_split_file(path: Path) -> bool:
    """Whether a file holds a split, not episodes (what can't be read counts as episodes)."""
    try:
        raw = read_json(path, kind="split file")
    except BenchError:
        return False
    return isinstance(raw, dict) and not {"episodes", "runs"} & set(raw)
