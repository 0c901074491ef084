"""Building a split: its definition applied to a dataset's annotations."""

from __future__ import annotations

from mlfsic_bench.data.dataset import PART_NAMES, Dataset, PartName
from mlfsic_bench.errors import BenchError
from mlfsic_bench.splits.files import compose, parts_of, to_split
from mlfsic_bench.splits.rules import apply_rule
from mlfsic_bench.splits.schema import SplitFile
from mlfsic_bench.splits.split import Part, Split
from mlfsic_bench.splits.subset import limit


def build_split(
    definition: SplitFile,
    dataset: Dataset,
    *,
    available_only: bool = False,
    min_pool: int | None = None,
) -> Split:
    """The split a definition makes of a dataset; see `build_file`."""
    content = build_file(definition, dataset, available_only=available_only, min_pool=min_pool)
    return to_split(content)


def build_file(
    definition: SplitFile,
    dataset: Dataset,
    *,
    available_only: bool = False,
    min_pool: int | None = None,
) -> SplitFile:
    """The complete file: every image's part and targets, counts and hash.

    The same annotations give the same file, byte for byte. `available_only` and `min_pool` limit
    the outcome and mark it as a subset (`subset.limit`). BenchError when the dataset is another
    one, lacks a label of the definition, or leaves a part without images.
    """
    if dataset.name != definition.dataset:
        raise BenchError(
            f"the split {definition.id} is not made of this dataset",
            expected=definition.dataset,
            found=dataset.name,
            remedy=f"open the dataset {definition.dataset!r}",
        )
    parts = apply_rule(definition, dataset.annotations())
    return _compose_limited(definition, parts, dataset if available_only else None, min_pool)


def limit_file(content: SplitFile, dataset: Dataset | None, min_pool: int | None) -> SplitFile:
    """A complete file limited to the images `dataset` has on disk and to labels with enough.

    `dataset` None keeps all images. BenchError when the file is a subset already.
    """
    if content.subset is not None:
        raise BenchError(
            f"this file of {content.id} is a subset already",
            expected="a whole split to limit",
            found=f"a subset: {content.subset.model_dump(mode='json')}",
            remedy="use the subset as it is, or limit the whole split",
        )
    return _compose_limited(content, parts_of(content), dataset, min_pool)


def _compose_limited(
    definition: SplitFile,
    parts: dict[PartName, Part],
    dataset: Dataset | None,
    min_pool: int | None,
) -> SplitFile:
    subset = None
    if dataset is not None or min_pool is not None:
        parts, subset = limit(parts, dataset, min_pool)
    for name in PART_NAMES:
        if definition.labels.of(name) and not parts[name].image_ids:
            why = f" ({subset.model_dump(mode='json')})" if subset else ""
            raise BenchError(
                f"the part {name!r} of {definition.id} has no image",
                expected="at least one image in each part that has labels",
                found=f"none{why}",
                remedy="check the data root, leave out --available-only, or lower --min-pool"
                if subset
                else "check the data root and the definition's label lists",
            )
    return compose(definition, parts, subset)
