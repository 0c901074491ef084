"""Commands on files of official size, and how their cost grows (a part of `make bench-full`).

    python benchmarks/full.py [--folder build/bench-full] [--small]

Writes, once, synthetic files in the layout and size of the official ones into the folder (3 GB):
annotations of COCO 2014 with polygons, GloVe, word2vec, features of 123,287 images. Runs commands
on them, each a process of its own with an empty cache at first, also on files of a tenth and of a
hundredth of the size, and on runs of 20 to 2,000 episodes of the scenes. Prints CPU seconds,
seconds, peak memory and growth (benchmarks/growth.py). Goals: no cost grows faster than its data,
and no process needs more than 1.5 GB plus the images of a batch. --small rehearses it on files of a
twentieth.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from growth import MAP_MB, Point, Series, summary, verdict
from official import write_coco, write_glove, write_store, write_word2vec

from mlfsic_bench.features.store.manifest import Manifest

ROOT = Path(__file__).resolve().parents[1]
SPLIT = "coco-52-12-16-open-v1"
NEEDED = 3.5e9  # bytes on disk at scale 1
SCALES, SMALL = (0.01, 0.1, 1.0), (0.01, 0.02, 0.05)
TRAINS = 0.1  # the smallest scale at which every base label has images enough to train on
EPISODES = (20, 200, 2000)
# Features that a run takes as another program's, so that it asks for no network.
STORE = Manifest(
    *("coco", "synthetic", "0" * 64, "imported", 2048, (7, 7)),
    made_by="benchmarks/official.py",
    pretraining="none",
)
BATCH = 260 * MAP_MB  # of a training episode: 52 support and 208 query images


@dataclass(frozen=True)
class Cost:
    """What a command needed."""

    cpu: float
    wall: float
    peak: float


# A process counts as its own the peak of the process that it was forked from, so a command is
# started from one that is small.
LAUNCHER = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
said = done.stdout.decode(errors="replace")
print(json.dumps([done.returncode, said, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""


def command(words: list[str], folder: Path) -> Cost:
    """Run `mlfsic-bench` with these words in the folder; RuntimeError when it fails."""
    environment = os.environ | {"MLFSIC_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER, sys.executable, "-m", "mlfsic_bench", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    code, said, cpu, peak = json.loads(done.stdout)
    if code:
        raise RuntimeError(f"mlfsic-bench {' '.join(words)}: exit {code}\n{said}")
    return Cost(cpu, time.monotonic() - start, peak)


def commands(data: Path, trains: bool) -> list[tuple[str, list[str], float]]:
    """(title, words, MB of a batch) of each command, in order; also one that trains, or not."""
    store = ["--features-pack", str(data / "store")]
    root = ["--data-root", str(data)]
    labels = ["--split", "split.json"]
    built = ["splits", "build", SPLIT, *root, "--out"]
    protonet = ["run", "protonet", "--split", SPLIT, *root, *store, "--out", "protonet"]
    trained = ["run", "word-guided-attention", *labels, *store, "--out", "trained"]
    trained += ["--embeddings", str(data / "glove.txt"), "--episodes", "20"]
    small = ("epochs=1", "warmup_epochs=1", "steps_per_epoch=5", "select_every=1")
    trained += [word for one in small for word in ("--set", one)]
    show = ["embeddings", "show", *labels]
    found: list[tuple[str, list[str], float]] = [
        ("splits build", [*built, "split.json"], 0),
        ("splits build, again", [*built, "again.json"], 0),
        ("embeddings show, GloVe", [*show, str(data / "glove.txt")], 0),
        ("embeddings show, word2vec", [*show, str(data / "word2vec.bin")], 0),
        ("run protonet, 200 episodes", protonet, 0),
        ("run protonet, again", protonet, 0),
        ("table of one run", ["table", "protonet", *root], 0),
    ]
    if trains:
        found.append(("run the paper's model, 5 steps, 20 episodes", trained, BATCH))
    return found


def make_files(folder: Path, scale: float) -> Path:
    """The folder with the files at this scale, made unless they are there."""
    if (folder / "complete").is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start = time.process_time()
    write_coco(folder, scale)
    write_glove(folder / "glove.txt", scale)
    write_word2vec(folder / "word2vec.bin", scale)
    write_store(folder / "store", scale, STORE)
    (folder / "complete").touch()
    print(
        f"files at scale {scale:g} written in {time.process_time() - start:.0f} CPU s", flush=True
    )
    return folder


def on_files(data: Path, scale: float) -> dict[str, tuple[Cost, float]]:
    """Run all commands in an empty folder beside the files: cost and MB of a batch of each."""
    with tempfile.TemporaryDirectory(dir=data) as name:
        return {
            title: (command(words, Path(name)), batch)
            for title, words, batch in commands(data, trains=scale >= TRAINS)
        }


def on_scenes(folder: Path, counts: tuple[int, ...]) -> dict[str, list[Point]]:
    """`run`, `score` and `table` of a scenes run with so many episodes."""
    split, found = "scenes-12-6-6-v1", dict[str, list[Point]]()
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        network = ["--split", split, "--backbone", "scenes-small"]
        command(["features", "extract", *network], place)
        for count in counts:
            drawn = ["episodes", "sample", split, "--count", str(count), "--out", f"{count}.json"]
            command(drawn, place)
            episodes, run = ["--episodes-file", f"{count}.json"], f"run{count}"
            for title, words in (
                ("run protonet", ["run", "protonet", *network, *episodes, "--out", run]),
                ("score --by label", ["score", run, "--by", "label", *episodes]),
                ("table", ["table", run, *episodes]),
            ):
                cost = command(words, place)
                point = Point(count, count, cost.cpu, cost.peak)
                found.setdefault(title, []).append(point)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "bench-full")
    parser.add_argument("--small", action="store_true", help="a rehearsal with small sizes")
    given = parser.parse_args()
    scales = SMALL if given.small else SCALES
    needed = NEEDED * sum(scales)  # bytes
    given.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(given.folder).free
    if free < needed:
        print(
            f"error: {given.folder} has {free / 1e9:.1f} GB free, expected "
            f"{needed / 1e9:.1f} GB; name another place with --folder",
            file=sys.stderr,
        )
        return 2
    lines: list[str] = []
    points: dict[str, list[Point]] = {}
    batches: dict[str, float] = {}
    for scale in scales:
        costs = on_files(make_files(given.folder / f"scale-{scale:g}", scale), scale)
        for title, (cost, batch) in costs.items():
            images = round(123_287 * scale)
            points.setdefault(title, []).append(Point(images, images, cost.cpu, cost.peak))
            batches[title] = batch
    print(f"\ncommands on files at scale {scales[-1]:g}")
    print(f"  {'':<48}{'CPU s':>8}{'s':>8}{'peak MB':>10}")
    for title, (cost, _) in costs.items():
        print(f"  {title:<48}{cost.cpu:>8.1f}{cost.wall:>8.1f}{cost.peak:>10,.0f}", flush=True)
    for title, of in points.items():
        series = Series(title, "images", batch=lambda size, needed=batches[title]: needed)
        lines.append(verdict(series, of))
    for title, of in on_scenes(given.folder, EPISODES[: 1 if given.small else 3]).items():
        lines.append(verdict(Series(title, "episodes"), of))
    print("\ngrowth", *lines, sep="\n  ")
    print(f"\n{summary(lines)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
