"""How often do the intervals cover the truth? Pools drawn again and again from a known population.

    OMP_NUM_THREADS=1 python benchmarks/coverage_simulation.py --again    # about half an hour
    python benchmarks/coverage_simulation.py                              # settings not yet there
    python benchmarks/coverage_simulation.py --table                      # docs/metrics.md again

coverage_population.py has the population. Each replicate draws a pool with so many images a label,
200 episodes from it by `one_per_label-v1`, and asks each interval of macro-AP whether it covers the
truth: the mean over episodes from an endless pool of this population, for which 20,000 episodes
from 200,000 images stand. The mean over pools of the given size is another number: a support image
that shows several labels leaves the queries, which a small pool notices and an endless one does
not. The difference is `bias`, and `coverage_of_mean` says how often the interval over images covers
the mean over pools of its size.

SMALL_POOL is the size of the smallest label's pool from which on 90 to 98 % are demanded (a test).
Results go to results/simulations/coverage.json, and as a table into docs/metrics.md.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from coverage_population import NAMES, TRUTH_EPISODES, TRUTH_POOL, Population, Setting

from mlfsic_bench.files import write_json, write_text
from mlfsic_bench.metrics.average_precision import Ranking
from mlfsic_bench.metrics.intervals import SMALL_POOL, episode_images, image_interval, t_interval
from mlfsic_bench.metrics.registry import episode_metrics, query_influence
from mlfsic_bench.randomness import splitmix64_array, stream_seed

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "results" / "simulations" / "coverage.json"
PAGE = ROOT / "docs" / "metrics.md"
BEGIN, END = "<!-- coverage table: begin -->\n", "<!-- coverage table: end -->\n"
EPISODES = 200

SETTINGS = (
    Setting("30 images a label, one label each", 6, 30, 0.0, 0.35, 0.0, 0.0, 300),
    Setting("100 images a label, many labels", 6, 100, 1.5, 0.35, 0.0, 0.0, 300),
    Setting("100 images a label, correlated scores", 6, 100, 1.0, 0.3, 0.5, 0.5, 300),
    Setting("300 images a label, many labels, kin", 6, 300, 1.5, 0.3, 0.0, 0.5, 300),
    Setting("100 images a label, 16 labels", 16, 100, 1.0, 0.25, 0.3, 0.3, 200),
    # Added to find where the interval fails, the formulas as they were.
    Setting(
        "100 images a label, 16 labels, many each", 16, 100, 2.0, 0.3, 0.3, 0.5, 1000, False, False
    ),
    Setting(
        "65 images a label, 16 labels, many each", 16, 65, 2.0, 0.3, 0.3, 0.5, 1000, False, False
    ),
    Setting("60 images a label, many labels, kin", 6, 60, 1.5, 0.3, 0.3, 0.5, 1000, False, False),
    Setting(
        "40 images a label, 16 labels, few each", 16, 40, 0.6, 0.3, 0.3, 0.5, 1000, False, False
    ),
    Setting(
        "40 images a label, 16 labels, many each", 16, 40, 2.0, 0.3, 0.3, 0.5, 200, False, False
    ),
    Setting("40 images a label, many labels, kin", 6, 40, 1.5, 0.3, 0.3, 0.5, 1000, False, False),
    Setting("uneven pools, 16 labels", 16, 100, 1.0, 0.3, 0.3, 0.3, 1000, True, False),
)


def simulate(
    setting: Setting, replicates: int, bootstrap: int, truth: float
) -> dict[str, dict[str, float] | float]:
    """For each interval its coverage of `truth` and its mean half width; and the right one.

    `bootstrap`: replicates of the cluster bootstrap for each pool; 0 leaves it out.
    """
    population = Population(setting)
    slots = np.repeat(np.arange(setting.labels), 4)
    covered: dict[str, list[bool]] = {}
    half: dict[str, list[float]] = {}
    means, smallest = [], []
    for number in range(replicates):
        targets, vectors, brightness = population.images(population.pool_size(), number)
        smallest.append(int(targets.sum(axis=0).min()))
        rows = population.episodes(targets, EPISODES, number)
        support, query = rows[:, : setting.labels], rows[:, setting.labels :]
        scores, y = population.scores(vectors, brightness, rows), targets[query]
        values = episode_metrics(scores, y, names=NAMES)["macro_ap"]
        influence = query_influence(scores, y, names=NAMES)["macro_ap"]
        names = support.astype(str).tolist()
        images = episode_images(query.astype(str), names, slots)
        mean, over_episodes = t_interval(values)
        found = {
            "episodes": (mean - over_episodes, mean + over_episodes),
            "images": _around(mean, image_interval(values, influence, images).half_width),
        }
        if bootstrap:
            drawn = bootstrap_means(scores, y, query, bootstrap, str(number))
            found["bootstrap"] = _around(mean, 1.96 * float(drawn.std(ddof=1)))
            low, high = np.quantile(drawn, [0.025, 0.975])
            found["bootstrap quantiles"] = (float(low), float(high))
        means.append(mean)
        for name, (low, high) in found.items():
            covered.setdefault(name, []).append(low <= truth <= high)
            half.setdefault(name, []).append((high - low) / 2)
    off = np.abs(np.array(means) - np.mean(means))
    return {
        "smallest_pool": float(np.mean(smallest)),
        "coverage_of_mean": float(np.mean(off <= half["images"])),
        "coverage": {name: float(np.mean(hits)) for name, hits in covered.items()},
        "half_width": {name: float(np.mean(widths)) for name, widths in half.items()},
        "right_half_width": 1.96 * float(np.std(means, ddof=1)),
        "mean": float(np.mean(means)),
    }


def bootstrap_means(
    scores: np.ndarray, targets: np.ndarray, query: np.ndarray, replicates: int, key: str
) -> np.ndarray:
    """float64 [replicates]: macro-AP, mean over episodes, when images are drawn again.

    A replicate draws as many images as the queries have, with replacement, and counts every query
    with the number of times its image was drawn, in all episodes alike. A label whose positives
    were not drawn is left out of its episode's mean, an episode of such labels of the whole.
    """
    unique, code = np.unique(query, return_inverse=True)
    n, code = len(unique), code.reshape(query.shape)
    ranking = Ranking(scores.transpose(0, 2, 1), targets.transpose(0, 2, 1))
    images = np.take_along_axis(code[:, None, :].repeat(scores.shape[2], 1), ranking.order, -1)
    seed = stream_seed("metrics", "cluster bootstrap", key, n)
    means = np.empty(replicates)
    for b in range(replicates):
        start = np.uint64(stream_seed(seed, b))
        words = splitmix64_array(np.array(start), np.arange(n, dtype=np.uint64))
        # 53 bits of a word make a number in [0, 1)
        drawn = ((words >> np.uint64(11)).astype(np.float64) / 2**53 * n).astype(np.int64)
        ap = ranking.ap_of_sorted(np.bincount(drawn, minlength=n).astype(np.float64)[images])
        some = ~np.isnan(ap).all(axis=1)
        means[b] = np.nanmean(ap[some], axis=1).mean()
    return means


def _around(mean: float, half: float) -> tuple[float, float]:
    return mean - half, mean + half


def render(result: dict) -> str:
    """The table of docs/metrics.md, in Markdown."""
    lines = [
        "| population | pools | smallest pool | episodes | cluster bootstrap: ±, quantiles | "
        "images | images, of the mean | bias | half width: episodes, bootstrap, images, right |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in result["settings"]:
        c, h, pools = row["coverage"], row["half_width"], row["setting"]["replicates"]
        widths = [*(h.get(kind) for kind in ("episodes", "bootstrap", "images"))]
        limit = " (**known limit**)" if is_limit(row) else ""
        error = (c["images"] * (1 - c["images"]) / pools) ** 0.5
        cells = [
            row["setting"]["name"] + limit,
            str(pools),
            f"{row['smallest_pool']:.0f}",
            f"{100 * c['episodes']:.1f}",
            f"{_hundred(c.get('bootstrap'), 1)}, {_hundred(c.get('bootstrap quantiles'), 1)}",
            f"{100 * c['images']:.1f} ({100 * error:.1f})",
            f"{100 * row['coverage_of_mean']:.1f}",
            f"{100 * (row['mean'] - row['truth']):+.2f}",
            ", ".join(_hundred(width, 2) for width in [*widths, row["right_half_width"]]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def is_limit(row: dict) -> bool:
    """Whether pools are below SMALL_POOL and the interval over images covers less than 90 %."""
    return bool(row["smallest_pool"] < SMALL_POOL and row["coverage"]["images"] < 0.9)


def _hundred(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f}"


def set_table(page: str, table: str) -> str:
    """The page with the table between its two marks."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + BEGIN + "\n" + table + "\n" + END + tail


def compute(setting: Setting, bootstrap: int) -> dict:
    """One row of the result."""
    truth, error = Population(setting).truth()
    row = simulate(setting, setting.replicates, bootstrap if setting.bootstrap else 0, truth)
    return {"setting": asdict(setting), "truth": truth, "truth_error": error, **row}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="only write the table into the page")
    parser.add_argument("--again", action="store_true", help="also settings that are there already")
    parser.add_argument("--bootstrap", type=int, default=100, help="replicates of the bootstrap")
    options = parser.parse_args()
    result = {
        "episodes": EPISODES,
        "metric": "macro_ap",
        "truth": {"pool": TRUTH_POOL, "episodes": TRUTH_EPISODES},
        "bootstrap_replicates": options.bootstrap,
    }
    if not options.table:
        old = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {"settings": []}
        known = [] if any(old.get(key) != result[key] for key in result) else old["settings"]
        rows = []
        for setting in SETTINGS:
            there = [row for row in known if row["setting"] == asdict(setting)]
            start = time.monotonic()
            row = there[0] if there and not options.again else compute(setting, options.bootstrap)
            rows.append(row)
            print(
                f"{setting.name}: {row['coverage']}, {time.monotonic() - start:.0f} s", flush=True
            )
        write_json(RESULT, {**result, "settings": rows})
    table = render(json.loads(RESULT.read_text("utf-8")))
    write_text(PAGE, set_table(PAGE.read_text("utf-8"), table))
    print(table, end="")


if __name__ == "__main__":
    main()
