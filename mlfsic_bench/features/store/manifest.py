"""What a feature store holds, and its key: everything its values depend on and nothing else."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.files import read_json, write_json
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.paths import default_cache as default_cache
from mlfsic_bench.schema import is_plain

if TYPE_CHECKING:
    from mlfsic_bench.data.dataset import Dataset
    from mlfsic_bench.features.backbones.base import Backbone

SCHEMA_VERSION = 1
LARGEST = 1 << 16  # channels, or the side of a grid
LONGEST = 300  # characters of a name
MANIFEST = "manifest.json"
MEAN = "mean"  # as features.backbones.base says it, which imports torch
NUMBERS = ("channels", "grid", "dim")
NO_MAPS = (0, 0)  # the grid of features without local maps
# Left out of the key and the file where they say nothing: what a store of earlier versions lacks.
OPTIONAL = ("vector", "dim", "made_by", "pretraining")
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Manifest:
    """The identity of a store. Device, workers and batch size are not part of it.

    Attributes
    ----------
    dataset: name of the dataset the images belong to.
    backbone, weights_hash, transform: what made the features.
    channels, grid: c and (h, w) of a local map; (0, 0) where there are none, and c is then 0, or d
        of vectors that are means of maps.
    vector, dim: what the pooled feature is, and its width d; not in the key of a mean, whose width
        is c.
    precision: arithmetic of the backbone, `fp32` or `bf16`; what is stored is always float16
        local maps and float32 pooled features.
    made_by, pretraining: of imported features, what made them and on which images that was trained;
        empty for those that this program made.
    """

    dataset: str
    backbone: str
    weights_hash: str
    transform: str
    channels: int
    grid: tuple[int, int]
    precision: Precision = "fp32"
    vector: str = MEAN
    dim: int = 0
    made_by: str = ""
    pretraining: str = ""

    def __post_init__(self) -> None:
        if not self.dim:
            object.__setattr__(self, "dim", self.channels)

    @property
    def locations(self) -> int:
        """h w."""
        return self.grid[0] * self.grid[1]

    @property
    def key(self) -> str:
        """64 hex digits; equal keys mean equal features up to float16 rounding."""
        return hash_json({"schema": SCHEMA_VERSION, **self.as_json()})

    def differences(self, other: Manifest) -> tuple[str, str]:
        """What this manifest and another one say where they differ, for an error."""
        own, its = self.as_json(), other.as_json()
        names = [name for name in {**own, **its} if own.get(name) != its.get(name)]
        return tuple("; ".join(f"{k} {says.get(k)}" for k in names) for says in (own, its))  # type: ignore[return-value]

    def as_json(self) -> dict[str, Any]:
        """The attributes as a JSON object; of a mean without `vector` and `dim`."""
        value = {**asdict(self), "grid": list(self.grid)}
        if self.vector == MEAN:
            del value["vector"], value["dim"]
        return {name: said for name, said in value.items() if said or name not in OPTIONAL}

    @property
    def content(self) -> dict[str, Any]:
        """What `manifest.json` holds."""
        width = "c" if self.vector == MEAN else "d"
        layout = {
            "local": "float16 little endian [row, h*w, c]",
            "pooled": f"float32 [row, {width}]",
        }
        return {"schema": SCHEMA_VERSION, "key": self.key, "layout": layout, **self.as_json()}

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into the folder, atomically."""
        write_json(folder / MANIFEST, self.content)


def manifest_of(dataset: Dataset | str, backbone: Backbone, precision: Precision) -> Manifest:
    """The manifest of this dataset's features by this backbone."""
    return Manifest(
        dataset=dataset if isinstance(dataset, str) else dataset.name,
        backbone=backbone.name,
        weights_hash=backbone.weights_hash,
        transform=backbone.transform_id,
        channels=backbone.channels,
        grid=(backbone.grid[0], backbone.grid[1]),
        precision=precision,
        vector=backbone.vector,
        dim=backbone.dim,
    )


def read_manifest(folder: Path) -> Manifest:
    """The manifest in a store's folder; BenchError when it is missing, foreign or altered."""
    path = Path(folder) / MANIFEST
    return parse_manifest(read_json(path, kind="manifest of a feature store"), path)


def parse_manifest(value: Any, path: Path) -> Manifest:
    """The manifest that a JSON value from `path` says; BenchError as `read_manifest`."""
    if not isinstance(value, dict):
        raise _bad(path, "a JSON object", type(value).__name__)
    if type(value.get("schema")) is not int or value["schema"] != SCHEMA_VERSION:
        raise _bad(path, f"schema {SCHEMA_VERSION}", f"schema {value.get('schema')!r}")
    own = [field.name for field in fields(Manifest)]
    known = [*own, "schema", "key", "layout"]
    for name in value:
        if name not in known:
            raise unknown_name(f"key in {path}:", name, known)
    missing = [name for name in known if name not in value and name not in OPTIONAL]
    if (value.get("vector") is None) != (value.get("dim") is None):
        missing.append("vector" if value.get("vector") is None else "dim")
    if missing:
        raise _bad(path, f"the keys {', '.join(known)}", f"no {', '.join(missing)}")
    grid = value["grid"]
    sizes = [value["channels"], *(grid if isinstance(grid, list) else [None])]
    sizes += [value.get("dim", 1)]
    whole = len(sizes) == 4 and all(type(n) is int and 0 <= n <= LARGEST for n in sizes)
    least = [0 if "dim" in value else 1, 0, 0, 1] if whole and grid == [*NO_MAPS] else [1] * 4
    if not whole or any(n < low for n, low in zip(sizes, least, strict=True)):
        expected = f"positive whole numbers up to {LARGEST}: channels, grid [h, w] and dim"
        raise _bad(path, expected, repr(sizes)[:80])
    names = {name: value[name] for name in own if name in value and name not in NUMBERS}
    for name, text in names.items():
        if not is_plain(text) or len(text) > LONGEST:
            raise _bad(path, f"plain text for {name!r}", repr(text)[:80])
    given = {name: value[name] for name in own if name in value}
    manifest = Manifest(**{**given, "grid": tuple(grid)})
    if manifest.key != value["key"]:
        raise _bad(path, f"the key {manifest.key[:16]}... of its content", str(value["key"])[:19])
    return manifest


def store_folder(
    cache: Path, dataset: Dataset | str, backbone: Backbone, precision: str = "fp32"
) -> Path:
    """The folder below `cache` for this dataset's features by this backbone (not created)."""
    manifest = manifest_of(dataset, backbone, cast(Precision, precision))
    name = re.sub(r"[^A-Za-z0-9._+-]+", "_", f"{manifest.dataset}-{manifest.backbone}")[:100]
    return Path(cache) / f"{name}-{manifest.key[:16]}"


def _bad(path: Path, expected: str, found: str) -> BenchError:
    return BenchError(
        f"{path} is not the manifest of a feature store this version can read",
        expected=expected,
        found=found,
        remedy="extract into another folder, or remove this one",
    )
