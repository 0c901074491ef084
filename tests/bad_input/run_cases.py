"""Bad methods, settings, plug-in files and output folders."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

from mlfsic_bench.features.store.manifest import read_manifest
from mlfsic_bench.features.store.writer import StoreWriter
from mlfsic_bench.locks import only_writer
from tests.bad_input.cases import RUN_LEAVES, SCENES, as_file, case, main_ok

RANDOM = ["run", "random", *SCENES, "--out", "out"]
PLUGIN = """
import torch
from mlfsic_bench.methods.contract import Method
class Odd(Method):
    name = "odd"
    def adapt(self, support):
        L = len(support.labels)
        return lambda query: ({body}) if L > 5 else torch.zeros(len(query), L)
"""  # sound under the contract tests, which have 5 labels: those come before the run


@contextmanager
def held():
    """Another writer holds the folder `out`."""
    with only_writer(Path("out")):
        yield


@contextmanager
def held_store():
    """Another writer holds the one store in `cache`."""
    (store,) = (path.parent for path in Path("cache").glob("*/manifest.json"))
    with StoreWriter(store, read_manifest(store)):
        yield


def _plugin(folder, body):
    spec = as_file(folder / "odd.py", PLUGIN.format(body=body)) + ":Odd"
    return ["run", spec, *SCENES, "--out", "out"]


@case("an unknown method", "'randon'", "did you mean 'random'")
def _method(folder, monkeypatch):
    return ["run", "randon", *SCENES, "--out", "out"]


@case("an unknown preset", "'papr'")
def _preset(folder, monkeypatch):
    return [*RANDOM, "--preset", "papr"]


@case("an unknown parameter", "'gama'", "did you mean 'gamma'")
def _parameter(folder, monkeypatch):
    return ["run", "word-guided-attention", *SCENES, "--out", "out", "--set", "gama=1"]


@case("a parameter with a bad value", "'gamma'", "many")
def _value(folder, monkeypatch):
    return ["run", "word-guided-attention", *SCENES, "--out", "out", "--set", "gamma=many"]


@case("a parameter that is infinite", "'gamma'", "inf")
def _infinite(folder, monkeypatch):
    return ["run", "word-guided-attention", *SCENES, "--out", "out", "--set", "gamma=inf"]


@case("a parameter without a value", "'gamma'", "name=value")
def _no_value(folder, monkeypatch):
    return ["run", "word-guided-attention", *SCENES, "--out", "out", "--set", "gamma"]


@case("a file in the place of the run's folder", "a file where a folder is needed")
def _file_in_the_way(folder, monkeypatch):
    (folder / "taken").write_text("")
    return ["run", "random", *SCENES, "--out", "taken"]


@case("training the backbone of a method that does not train", "'random'", "--features")
def _end_to_end(folder, monkeypatch):
    return [*RANDOM, "--features", "end-to-end"]


@case("a plug-in file that is not there", "nowhere.py")
def _no_file(folder, monkeypatch):
    return ["run", "nowhere.py:Odd", *SCENES, "--out", "out"]


@case("a plug-in that is no Python", "odd.py:3", "SyntaxError")
def _syntax(folder, monkeypatch):
    path = as_file(folder / "odd.py", "import torch\n\ndef (x):\n")
    return ["run", f"{path}:Odd", *SCENES, "--out", "out"]


@case("a plug-in that fails when imported", "odd.py:1", "no_such_module")
def _import(folder, monkeypatch):
    path = as_file(folder / "odd.py", "import no_such_module\n")
    return ["run", f"{path}:Odd", *SCENES, "--out", "out"]


@case("a plug-in without that class", "'Ood'", "Odd")
def _class(folder, monkeypatch):
    args = _plugin(folder, "None")
    return [args[0], args[1].replace(":Odd", ":Ood"), *args[2:]]


@case("a plug-in that is no method", "is not a method")
def _no_method(folder, monkeypatch):
    path = as_file(folder / "odd.py", "class Odd:\n    pass\n")
    return ["run", f"{path}:Odd", *SCENES, "--out", "out"]


@case("a plug-in without adapt", "adapt")
def _abstract(folder, monkeypatch):
    text = PLUGIN.partition("    def")[0]
    return ["run", as_file(folder / "odd.py", text) + ":Odd", *SCENES, "--out", "out"]


@case("a plug-in that raises in adapt", "'odd'", "episode 0", "no idea", "odd.py:7",
      leaves=RUN_LEAVES)  # fmt: skip
def _raises(folder, monkeypatch):
    text = PLUGIN.format(body="1").replace(
        "L = ", "if len(support.labels) > 5: raise KeyError('no idea')\n        L = "
    )
    return ["run", as_file(folder / "odd.py", text) + ":Odd", *SCENES, "--out", "out"]


@case("a plug-in that raises while scoring", "'odd'", "scoring episode 0", "ZeroDivisionError",
      leaves=RUN_LEAVES)  # fmt: skip
def _raises_late(folder, monkeypatch):
    return _plugin(folder, "1 / 0")


@case("a plug-in that exits", "'odd'", "episode 0", "SystemExit", leaves=RUN_LEAVES)
def _exits(folder, monkeypatch):
    return _plugin(folder, "exit(0)")


@case("a plug-in that exits when it is made", "'odd'", "SystemExit", "odd.py:6")
def _exits_early(folder, monkeypatch):
    early = "    def __init__(self, params): exit(0)\n    def adapt"
    text = PLUGIN.format(body="1").replace("    def adapt", early)
    return ["run", as_file(folder / "odd.py", text) + ":Odd", *SCENES, "--out", "out"]


@case("a plug-in that raises in fit", "'odd'", "while fitting", "no idea",
      leaves=(*RUN_LEAVES, "out/checkpoints"))  # fmt: skip
def _fit(folder, monkeypatch):
    text = PLUGIN.format(body="1") + "    trains = True\n    def state(self): return {}\n"
    text += "    def fit(self, base, val, context):\n        raise KeyError('no idea')\n"
    return ["run", as_file(folder / "odd.py", text) + ":Odd", *SCENES, "--out", "out"]


@case("a plug-in that fails a contract test", "'odd'", "`scores`", "NaN", "so it is not run")
def _not_run(folder, monkeypatch):
    text = PLUGIN.format(body="1").replace("torch.zeros(", "0 / torch.zeros(")
    return ["run", as_file(folder / "odd.py", text) + ":Odd", *SCENES, "--out", "out"]


@case("NaN scores", "'odd'", "episode 0", "NaN", leaves=RUN_LEAVES)
def _nan(folder, monkeypatch):
    return _plugin(folder, "torch.full((len(query), 6), float('nan'))")


@case("scores too large for float32", "'odd'", "episode 0", "infinite", leaves=RUN_LEAVES)
def _large(folder, monkeypatch):
    return _plugin(folder, "torch.full((len(query), 6), 1e200, dtype=torch.float64)")


@case("scores of a wrong shape", "'odd'", "[24, 6]", "[24, 5]", leaves=RUN_LEAVES)
def _shape(folder, monkeypatch):
    return _plugin(folder, "torch.zeros(len(query), 5)")


@case("whole numbers for scores", "'odd'", "float32 or float64", "int64", leaves=RUN_LEAVES)
def _integers(folder, monkeypatch):
    return _plugin(folder, "torch.zeros(len(query), 6, dtype=torch.int64)")


@case("half precision for scores", "'odd'", "float32 or float64", "float16", leaves=RUN_LEAVES)
def _half(folder, monkeypatch):
    return _plugin(folder, "torch.zeros(len(query), 6, dtype=torch.float16)")


@case("sparse scores", "'odd'", "dense", "sparse", leaves=RUN_LEAVES)
def _sparse(folder, monkeypatch):
    return _plugin(folder, "torch.eye(len(query), 6).to_sparse()")


@case("scores without numbers", "'odd'", "dense", "meta", leaves=RUN_LEAVES)
def _meta(folder, monkeypatch):
    return _plugin(folder, "torch.zeros(len(query), 6, device='meta')")


@case("scores that can't be copied", "'odd'", "scores of episode 0", "no way", leaves=RUN_LEAVES)
def _stuck(folder, monkeypatch):
    text = PLUGIN.format(body="torch.zeros(len(query), 6).as_subclass(Stuck)")
    stuck = "class Stuck(torch.Tensor):\n    def detach(self): raise OSError('no way')\n"
    return ["run", as_file(folder / "odd.py", text + stuck) + ":Odd", *SCENES, "--out", "out"]


@case("a plug-in that raises no Exception", "'odd'", "episode 0", "GeneratorExit", "another --out",
      leaves=RUN_LEAVES)  # fmt: skip
def _base_exception(folder, monkeypatch):
    text = PLUGIN.format(body="1").replace(
        "L = ", "if len(support.labels) > 5: raise GeneratorExit\n        L = "
    )
    return ["run", as_file(folder / "odd.py", text) + ":Odd", *SCENES, "--out", "out"]


@case("a plug-in that raises no Exception when imported", "odd.py:1", "BaseException")
def _import_base(folder, monkeypatch):
    path = as_file(folder / "odd.py", "raise BaseException('no idea')\n")
    return ["run", f"{path}:Odd", *SCENES, "--out", "out"]


@case("a plug-in whose name is too long", "64", "'aaaa")
def _long_name(folder, monkeypatch):
    text = PLUGIN.format(body="1").replace('"odd"', repr("a" * 65))
    return ["run", as_file(folder / "odd.py", text) + ":Odd", *SCENES, "--out", "out"]


@case("a state with a number in it", "'odd'", "'steps': int", "so it is not run")
def _state_number(folder, monkeypatch):
    text = PLUGIN.format(body="1")
    text += "    def state(self):\n        return {'weight': torch.ones(2), 'steps': 3}\n"
    return ["run", as_file(folder / "odd.py", text) + ":Odd", *SCENES, "--out", "out"]


@case("parameters that don't go together", "don't go together\n", "found:    n_a (9) may be")
def _together(folder, monkeypatch):
    return ["run", "word-guided-attention", *SCENES, "--out", "out", "--set", "n_a=9",
            "--set", "d_j=8", "--preset", "authors-tomm"]  # fmt: skip


@case("no tensor for scores", "'odd'", "list", leaves=RUN_LEAVES)
def _list(folder, monkeypatch):
    return _plugin(folder, "[[0.0] * 6] * len(query)")


@case("--out holds another run", "out", "seed: 0 -> 1")
def _another(folder, monkeypatch):
    main_ok(*RANDOM)
    return [*RANDOM, "--seed", "1"]


@case("--out holds other files", "out", "thesis.tex")
def _files(folder, monkeypatch):
    (folder / "out").mkdir()
    as_file(folder / "out" / "thesis.tex", "years of work")
    return RANDOM


@case("--out is a file", "out", "errno")
def _file(folder, monkeypatch):
    as_file(folder / "out", "years of work")
    return RANDOM


@case("--out is below a file", "out/run", "errno")
def _below(folder, monkeypatch):
    as_file(folder / "out", "years of work")
    return [*RANDOM[:-1], "out/run"]


@case("the record of a run is no JSON", "record.json")
def _record(folder, monkeypatch):
    (folder / "out").mkdir()
    as_file(folder / "out" / "record.json", "{")
    return RANDOM


@case(
    "the state of a run is a malicious pickle",
    "method.pt",
    "nothing of it was loaded",
    leaves=RUN_LEAVES,
)
def _state(folder, monkeypatch):
    import torch

    from tests.bad_input.feature_cases import Payload

    main_ok(*RANDOM)
    (folder / "out" / "scores.npz").unlink()
    torch.save({"key": Payload()}, folder / "out" / "method.pt")
    return RANDOM


@case("two writers of one run", "another process", "out", leaves=("out", "out/.lock"), around=held)
def _two(folder, monkeypatch):
    return RANDOM


@case("two writers of one store", "another process", "cache/", around=held_store)
def _two_stores(folder, monkeypatch):
    main_ok("run", "protonet", *SCENES, "--out", "first")
    return ["features", "extract", *SCENES[:-2], "--part", "val"]
