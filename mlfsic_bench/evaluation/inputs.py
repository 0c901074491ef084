"""Everything a plan names, opened and checked before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlfsic_bench.data.images import require_images
from mlfsic_bench.episodes.protocol import Episode, EpisodeSet
from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.evaluation.meta import FeaturesMeta, TrainingMeta
from mlfsic_bench.evaluation.parts import PartView, Selection, val_episodes
from mlfsic_bench.evaluation.plan import (
    FEATURE_MODES,
    PRECISIONS,
    SCORED_PARTS,
    RunPlan,
    refuse_beside_given,
)
from mlfsic_bench.evaluation.resources import ResourceCache
from mlfsic_bench.methods.limited import LimitedFeatures
from mlfsic_bench.paths import watched

if TYPE_CHECKING:
    import torch

    from mlfsic_bench.data.dataset import Dataset
    from mlfsic_bench.embeddings.label_embeddings import LabelEmbeddings
    from mlfsic_bench.evaluation.maker import Maker
    from mlfsic_bench.features.backbones.base import Backbone
    from mlfsic_bench.features.given import GivenFeatures
    from mlfsic_bench.features.sources import FeatureSource, Shape
    from mlfsic_bench.methods.contract import Method
    from mlfsic_bench.splits.files import SplitFile
    from mlfsic_bench.splits.split import Part, Split

Log = Callable[[str], None]
SourceOpener = Callable[[Sequence[str], Sequence[str], Log], "FeatureSource"]


@dataclass(frozen=True, eq=False)
class Inputs:
    """A run's inputs, opened.

    Attributes
    ----------
    split, episodes: the split and the episodes of it that are scored; the first `count` are run.
    selection: base and val parts; None for a method that does not train.
    embeddings: vectors of all labels of the split, or None; see `view` for who gets them.
    method: a fresh method. `make_method()` gives another, equal one.
    method_source: hash of the file it is in; empty for a registered method, `unversioned ...` for
        a class that has none (`maker`).
    preset, seed: as in the plan.
    features: which features, for the record and the key.
    device: where tensors lie.
    open_source: `open_source(wanted, others, log)` gives the features of the images `wanted`, and,
        should a method ask for them, of `others`. A live backbone is the same for all images.
    own_episodes: whether the episodes are those the protocol draws from the split.
    damaged: of a subset, image id -> what lies in the place of an image that was left out for it.
    plan: what the inputs were opened from, the method by its name; None where they were made of
        Python objects, with which no other process can begin.
    split_file: the content of the split, where it was opened by its name.
    val: the val part over the labels that are feasible, where its episodes are scored.
    """

    split: Split
    episodes: EpisodeSet
    count: int
    selection: Selection | None
    embeddings: LabelEmbeddings | None
    method: Method
    make_method: Callable[[], Method]
    method_source: str
    preset: str | None
    seed: int
    features: FeaturesMeta
    device: torch.device
    open_source: SourceOpener
    own_episodes: bool = True
    damaged: dict[str, str] = field(default_factory=dict)
    plan: RunPlan | None = None
    split_file: SplitFile | None = None
    val: Part | None = None

    @property
    def part(self) -> Part:
        """The part whose episodes are scored."""
        return self.split.novel if self.val is None else self.val

    @property
    def embeddings_given(self) -> LabelEmbeddings | None:
        """The label embeddings that the method is given: none where it says it uses none."""
        declared = self.method.needs_embeddings or self.method.uses_embeddings
        return self.embeddings if declared else None

    def scored(self, source: FeatureSource) -> PartView:
        """The part whose episodes are scored, as the method sees it."""
        return self.view(self.part, self.episodes.part, source)

    def view(self, part: Part, purpose: str, source: FeatureSource) -> PartView:
        """A part as the method sees it; `purpose` as in `PartView`."""
        return PartView(part, purpose, self.split.hash, self.seed, source, self.embeddings_given)


def open_inputs(plan: RunPlan, opened: ResourceCache | None = None) -> Inputs:
    """Open and check everything `plan` names; BenchError for the first thing that is wrong.

    What `opened` holds already is not opened again.
    """
    opened = opened or ResourceCache()
    with watched(opened.places):
        return _opened(plan, opened)


def _opened(plan: RunPlan, opened: ResourceCache) -> Inputs:
    from mlfsic_bench.episodes.files import find_episodes
    from mlfsic_bench.evaluation.maker import maker_of
    from mlfsic_bench.features.compute import parse_device

    if plan.features not in FEATURE_MODES:
        raise unknown_name("feature mode", plan.features, FEATURE_MODES)
    device = parse_device(plan.device)
    maker = maker_of(plan)
    method = maker.make()
    if plan.precision not in PRECISIONS:
        raise unknown_name("precision", plan.precision, PRECISIONS)
    plan.training.check(plan.features)
    if plan.features == "end-to-end" and not method.trains:
        raise BenchError(
            f"the method {method.name!r} trains nothing, so it can't train the backbone",
            expected="--features stored or live for this method",
            found="--features end-to-end",
            remedy="leave --features out",
        )
    cuts = {"--base-images": plan.base_images, "--base-labels": plan.base_labels}
    for option, count in cuts.items():
        if count is None or method.trains:
            continue
        raise BenchError(
            f"the method {method.name!r} trains nothing, so {option} does nothing",
            expected=f"a method that trains, for {option}",
            found=f"{option} {count}",
            remedy=f"leave {option} out; a learning curve draws this method as a level line",
        )
    refuse_beside_given(plan, opened.given(plan))
    split = opened.split(plan)
    selection = None
    if method.trains or plan.part == "val":
        selection = opened.selection(plan, split)
    val, episodes = _scored(plan, split, selection, opened)
    dataset = opened.dataset_if_needed(plan, split.dataset)
    embeddings = opened.embeddings(plan, split, method, dataset, device)
    selection = selection if method.trains else None
    total = len(episodes.episodes)
    count = total if plan.episodes is None else plan.episodes
    if not 1 <= count <= total:
        raise BenchError(
            f"can't run the first {count} episodes",
            expected=f"a number from 1 to {total}",
            found=str(count),
            remedy="correct --episodes, or leave it out to run them all",
        )
    needed = _needed(episodes.part, episodes.episodes[:count], selection)
    features, open_source, damaged = _features(plan, opened, split, needed, device)
    return Inputs(
        split=split,
        episodes=episodes,
        count=count,
        selection=selection,
        embeddings=embeddings,
        method=method,
        make_method=maker.make,
        method_source=maker.source,
        preset=plan.preset,
        seed=plan.seed,
        features=features,
        device=device,
        open_source=open_source,
        own_episodes=plan.episodes_file is None
        or find_episodes(episodes.protocol, split, count=total).hash == episodes.hash,
        damaged=damaged,
        plan=_for_others(plan, maker),
        split_file=opened.split_file(plan) if isinstance(plan.split, str) else None,
        val=val,
    )


def _for_others(plan: RunPlan, maker: Maker) -> RunPlan | None:
    """The plan by which another process makes the same method, network and all; None: none can."""
    if maker.spec is None or (plan.features == "end-to-end" and not isinstance(plan.backbone, str)):
        return None
    return replace(plan, method=maker.spec, settings=maker.settings)


def _scored(
    plan: RunPlan, split: Split, selection: Selection | None, opened: ResourceCache
) -> tuple[Part | None, EpisodeSet]:
    """(the val part, if its episodes are scored, and the episodes)."""
    if plan.part not in SCORED_PARTS:
        raise unknown_name("part to score", plan.part, SCORED_PARTS)
    if plan.part == "novel":
        return None, opened.episodes(plan, split)
    if plan.protocol is not None or plan.episodes_file is not None:
        raise BenchError(
            "--part val scores the episodes that are there to select on",
            expected="no other protocol and no episode file beside --part val",
            found="--episodes-file" if plan.episodes_file else "another protocol",
            remedy="leave that option out, or score the novel part",
        )
    assert selection is not None
    return val_episodes(split, selection)


def _needed(
    scored: str, episodes: Sequence[Episode], selection: Selection | None
) -> dict[str, list[str]]:
    """Part -> the images of it that the run will look at, sorted."""
    needed = {scored: {i for e in episodes for i in (*e.support, *e.query)}}
    if selection is not None:
        needed["base"] = set(selection.base.image_ids)
        of_val = {i for e in selection.episodes for i in (*e.support, *e.query)}
        needed["val"] = needed.get("val", set()) | of_val
    return {part: sorted(ids) for part, ids in needed.items()}


def _features(
    plan: RunPlan,
    opened: ResourceCache,
    split: Split,
    needed: dict[str, list[str]],
    device: torch.device,
) -> tuple[FeaturesMeta, SourceOpener, dict[str, str]]:
    """Which features the run has, where they come from, and damaged images that are left out.

    BenchError now rather than after hours of training where an image, or a row of a pack, is not
    there.
    """
    from mlfsic_bench.features.sources import describe

    given = opened.given(plan)
    if given is not None:
        given.require(split, needed)
        made_by, weights, precision = given.describe(), given.weights, given.precision
        source: dict[str, Any] = {"source": given.origin, "rounded": given.rounded, **given.said}
        damaged: dict[str, str] = {}
        open_source = _given_opener(given, made_by, device)
    else:
        dataset = opened.dataset(plan, split.dataset)
        wanted = sorted(set().union(*needed.values()))
        require_images(dataset, wanted, f"split {split.id!r}")
        damaged = dataset.damaged() if plan.available_only else {}
        backbones = opened.networks(plan)
        made_by, precision, source = describe(backbones), plan.precision, {}
        weights = _weights_name(
            plan.weights if isinstance(plan.backbone, str) else backbones[0].weights,
            len(backbones),
        )
        open_source = _source_opener(plan, dataset, wanted, backbones, device, opened)
        if plan.features != "stored":
            source["training"] = TrainingMeta.of(plan.training, backbones)
    meta = FeaturesMeta(
        mode=plan.features,
        backbone=made_by.name,
        weights=weights,
        weights_hash=made_by.weights_hash,
        transform=made_by.transform,
        precision=precision,
        channels=made_by.channels,
        grid=made_by.grid,
        **FeaturesMeta.vector_of(made_by.vector, made_by.dim),
        **source,
    )
    return meta, open_source, damaged


def _given_opener(given: GivenFeatures, shape: Shape, device: torch.device) -> SourceOpener:
    """Rows of the images at hand, and of no others."""
    return lambda wanted, others, log: LimitedFeatures.deferred(
        shape, device, wanted, others, lambda ids: given.source(device)
    )


def _weights_name(weights: str, networks: int) -> str:
    each = weights.split("+") if networks > 1 else [weights]
    return "+".join(Path(one).name if os.sep in one else one for one in each)


def _source_opener(
    plan: RunPlan,
    dataset: Dataset,
    images: Sequence[str],
    backbones: Sequence[Backbone],
    device: torch.device,
    shared: ResourceCache,
) -> SourceOpener:
    from mlfsic_bench.features.live import LiveFeatures, LiveOptions
    from mlfsic_bench.features.sources import describe, join
    from mlfsic_bench.features.store.manifest import default_cache

    # absolute: features are made when a method asks, and a method may change the working folder
    cache = (plan.cache or default_cache()).absolute()
    if plan.features != "stored":
        # One source for all parts: what is trained on base images scores the novel ones.
        trainable = plan.features == "end-to-end"
        keeps = plan.training.image_cache
        options = LiveOptions(
            training=plan.training,
            precision=plan.precision,
            batch_size=plan.batch_size,
            workers=plan.workers,
            cache=cache if keeps or (keeps is None and trainable) else None,
            ids=tuple(images),
            seed=plan.seed,
        )
        made = [LiveFeatures(b, dataset, device, trainable, options) for b in backbones]
        live = LimitedFeatures(join(backbones, made))

        def opened_once(wanted: Sequence[str], others: Sequence[str], log: Log) -> FeatureSource:
            for one in made:
                one.log = log
            return live

        return opened_once
    made_by = describe(backbones)

    def deferred(wanted: Sequence[str], others: Sequence[str], log: Log) -> FeatureSource:
        def opened(ids: Sequence[str]) -> FeatureSource:
            from mlfsic_bench.features.extract import stored_features

            source, _ = stored_features(
                dataset,
                ids,
                backbones,
                cache=cache,
                device=device,
                batch_size=plan.batch_size,
                workers=plan.workers,
                precision=plan.precision,
                open_store=shared.store,
                log=log,
            )
            return source

        return LimitedFeatures.deferred(made_by, device, wanted, others, opened)

    return deferred
