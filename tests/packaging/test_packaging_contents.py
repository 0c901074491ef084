"""What travels in a wheel and in an editable install, and under which version."""

import ast
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

import mlfsic_bench

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {  # installed name -> folder of the checkout
    "mlfsic_bench": "mlfsic_bench",
    "mlfsic_baselines": "baselines",
    "mlfsic_experiments": "experiments",
    "mlfsic_splits": "splits",
    "mlfsic_results/published": "results/published",
}


def shipped(folder: str) -> set[str]:
    """Files of one folder of the checkout that an installation must carry, relative to it."""
    top = ROOT / folder
    return {
        path.relative_to(top).as_posix()
        for path in top.rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and path.suffix not in {".pyc", ".md"}
        and not path.name.startswith(".")
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> set[str]:
    """Names in a wheel built from a copy of the checkout, with the installed setuptools."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in ("mlfsic_bench", "baselines", "experiments", "splits", "results"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = "import setuptools.build_meta as b; print(b.build_wheel('dist'))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", build],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "absent from the `packages`" not in done.stdout + done.stderr
    with zipfile.ZipFile(copy / "dist" / done.stdout.splitlines()[-1]) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize("package", FOLDERS)
def test_wheel_carries_every_file(wheel, package):
    missing = {f"{package}/{name}" for name in shipped(FOLDERS[package])} - wheel
    assert not missing


def test_wheel_carries_nothing_else(wheel):
    tops = {name.split("/")[0] for name in wheel if ".dist-info/" not in name}
    assert tops == {name.split("/")[0] for name in FOLDERS}
    assert not [name for name in wheel if name.startswith("mlfsic_results/measured")]
    assert [name for name in wheel if name.endswith(".dist-info/licenses/LICENSE")]


@pytest.mark.parametrize("package", FOLDERS)
def test_data_is_reachable_through_importlib_resources(package):
    name, _, rest = package.partition("/")
    data = [file for file in shipped(FOLDERS[package]) if not file.endswith(".py")]
    top = files(name)
    for file in data:
        assert top.joinpath(*rest.split("/") if rest else (), *file.split("/")).is_file(), file
    assert data or package == "mlfsic_baselines"


def test_version_is_the_same_everywhere():
    version = importlib.metadata.version("mlfsic-bench")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    released = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert mlfsic_bench.__version__ == version
    assert f'version = "{version}"' in pyproject
    assert citation["version"] == version
    assert released[0] == version


def test_documented_split_sizes_are_those_of_the_shipped_files():
    page = (ROOT / "docs" / "splits.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|.*\| ([\d,]+) / ([\d,]+) / ([\d,]+) \|$", page, re.M)
    assert len(rows) >= 2
    for name, *sizes in rows:
        content = json.loads(files("mlfsic_splits").joinpath(f"{name}.json").read_text("utf-8"))
        if not content["images"]:  # laid out when the split is used
            continue
        counts = [len(content["images"][part]) for part in ("base", "val", "novel")]
        assert counts == [int(size.replace(",", "")) for size in sizes], name


def test_every_entry_point_names_something_importable():
    found = importlib.metadata.entry_points(group="mlfsic_bench.methods")
    own = [point for point in found if point.dist and point.dist.name == "mlfsic-bench"]
    assert own
    for point in own:
        assert point.load().name == point.name


# What the standard library has from Python 3.11 or 3.12 on, by module.
LATER = {
    "typing": "Self Never LiteralString assert_never assert_type reveal_type override Unpack "
    "Required NotRequired TypeVarTuple dataclass_transform TypeAliasType",
    "enum": "StrEnum ReprEnum verify member nonmember",
    "datetime": "UTC",
    "itertools": "batched",
}


def test_nothing_is_imported_that_python_3_10_lacks():
    root = Path(__file__).resolve().parents[2]
    found = []
    for top in ("mlfsic_bench", "baselines", "tools"):
        for path in (root / top).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module in LATER:
                    later = LATER[node.module].split()
                    found += [(path.name, a.name) for a in node.names if a.name in later]
                if isinstance(node, ast.Import):
                    found += [(path.name, a.name) for a in node.names if a.name == "tomllib"]
    assert found == []
