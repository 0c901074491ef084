"""The novel episodes a plan asks for: shipped, drawn, or read from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlfsic_bench.episodes.episode import EpisodeSet
from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.evaluation.plan import PROTOCOLS, RunPlan

if TYPE_CHECKING:
    from mlfsic_bench.splits.split import Split

NOVEL_EPISODES = 200


def novel_episodes(plan: RunPlan, split: Split) -> EpisodeSet:
    """The episodes of the plan's protocol or file on this split.

    BenchError when options contradict each other, the file does not belong to the split, or there
    are fewer episodes than asked for.
    """
    from mlfsic_bench.episodes.any_file import read_any
    from mlfsic_bench.episodes.files import sample_episode_set, shipped_episode_set
    from mlfsic_bench.episodes.run_files import own_runs

    _check_protocol(plan)
    if plan.episodes_file is not None:
        episodes = read_any(plan.episodes_file, split)
        _check_file_protocol(plan, episodes)
        if episodes.part != "novel":
            raise BenchError(
                f"{plan.episodes_file} holds episodes of the {episodes.part} part",
                expected="episodes of the novel part",
                found=episodes.part,
                remedy="name the novel episodes, or leave --episodes-file out",
            )
    elif plan.shots is not None:
        episodes = own_runs(split, plan.shots)
    else:
        shipped = shipped_episode_set(split, "novel")
        episodes = shipped or sample_episode_set(split, "novel", NOVEL_EPISODES)
    total = len(episodes.episodes)
    if plan.episodes is not None and not 1 <= plan.episodes <= total:
        raise BenchError(
            f"can't run the first {plan.episodes} episodes",
            expected=f"a number from 1 to {total}",
            found=str(plan.episodes),
            remedy="correct --episodes, or leave it out to run them all",
        )
    # the runs of laso_k_shot differ in the size of their supports; their query is one and the same
    sizes = {
        (len(e.support) if episodes.shots is None else 0, len(e.query)) for e in episodes.episodes
    }
    if len(sizes) != 1:
        raise BenchError(
            "the episodes differ in size",
            expected="as many support and as many query images in every episode",
            found=f"sizes (support, query): {sorted(sizes)}",
            remedy="use episodes of the protocol one_per_label",
        )
    return episodes


def is_own(split: Split, episodes: EpisodeSet) -> bool:
    """Whether these are the episodes the protocol draws from the split, or ships for it."""
    from mlfsic_bench.episodes.files import sample_episode_set
    from mlfsic_bench.episodes.run_files import own_runs

    if episodes.shots is not None:
        return own_runs(split, episodes.shots).hash == episodes.hash
    return sample_episode_set(split, "novel", len(episodes.episodes)).hash == episodes.hash


def _check_protocol(plan: RunPlan) -> None:
    if plan.protocol not in PROTOCOLS:
        raise unknown_name("protocol", plan.protocol, PROTOCOLS)
    if (plan.protocol == "laso_k_shot") != (plan.shots is not None) and (
        plan.shots is not None or plan.episodes_file is None
    ):
        raise BenchError(
            f"--protocol {plan.protocol} and --shots do not fit together",
            expected="--protocol laso_k_shot with --shots K, or neither",
            found=f"--protocol {plan.protocol}, "
            + ("no --shots" if plan.shots is None else f"--shots {plan.shots}"),
            remedy="add --shots K; runs ship for 1 and 5"
            if plan.shots is None
            else "add --protocol laso_k_shot, or leave --shots out",
        )


def _check_file_protocol(plan: RunPlan, episodes: EpisodeSet) -> None:
    """What the plan says of the protocol, when it says something, must be what the file says."""
    if plan.protocol == "one_per_label":
        return
    if episodes.shots is None or plan.shots not in (None, episodes.shots):
        raise BenchError(
            f"{plan.episodes_file} holds episodes of another protocol",
            expected=f"{plan.protocol}, shots {plan.shots or 'any'}",
            found=f"{episodes.protocol}, shots {episodes.shots or 'none'}",
            remedy="leave --protocol and --shots out: the file says both",
        )
