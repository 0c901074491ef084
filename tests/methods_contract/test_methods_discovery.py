"""Finding methods, and the one clear error for each way in which that fails."""

import enum
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, model_validator

from mlfsic_bench.cli.options import parse_settings
from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods import registry as discovery
from mlfsic_bench.methods.contract import Method, MethodParams
from mlfsic_bench.methods.params import build_params, describe_parameter, small_settings
from mlfsic_bench.methods.registry import (
    Described,
    describe_method,
    find_method,
    list_methods,
    make_method,
    method_names,
)

MINIMAL = Path(__file__).parents[1] / "fakes" / "plugins" / "minimal.py"
HEAD = "from mlfsic_bench.methods.contract import Method, MethodParams\n"
ADAPT = "    def adapt(self, support):\n        return None\n"


def write(folder, text):
    path = folder / "plugin.py"
    path.write_text(text)
    return path


def failure(spec):
    with pytest.raises(BenchError) as caught:
        find_method(str(spec))
    return caught.value


def test_shipped_methods_are_registered_under_their_own_names():
    shipped = {"random", "prior", "constant", "protonet", "linear", "word-guided-attention"}
    shipped |= {"laso", "pla", "kggr"}
    assert shipped <= set(method_names())
    assert list(method_names()) == sorted(method_names())
    for name in shipped:
        assert find_method(name).name == name
        assert find_method(name).citation


@pytest.mark.parametrize("name", method_names())
def test_what_is_read_of_a_class_is_what_it_says(name):
    read, loaded = describe_method(name), find_method(name)
    assert read is not loaded  # all of it could be read
    for attribute in (*Described.__annotations__, "__doc__"):
        assert getattr(read, attribute) == getattr(loaded, attribute), attribute
    assert list(read.presets) == list(loaded.presets)


def test_a_class_of_others_is_imported(monkeypatch):
    points = [entry("good", "tests.fakes.plugins.minimal:Minimal")]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)
    assert describe_method("good") is find_method("good")
    with pytest.raises(BenchError, match="unknown method"):
        describe_method("gone")


def test_a_file_and_a_class():
    method = find_method(f"{MINIMAL}:Minimal")
    assert method.name == "minimal"
    assert find_method(f"{MINIMAL}:Minimal") is method
    assert not (MINIMAL.parent / "__pycache__" / "mlfsic_plugin.pyc").exists()


def test_an_edited_file_is_read_again(tmp_path):
    path = write(tmp_path, f"{HEAD}class A(Method):\n    name = 'first'\n{ADAPT}")
    assert find_method(f"{path}:A").name == "first"
    write(tmp_path, f"{HEAD}class A(Method):\n    name = 'second'\n{ADAPT}")
    assert find_method(f"{path}:A").name == "second"
    assert list(tmp_path.iterdir()) == [path]


def test_unknown_name_gives_the_nearest():
    error = failure("protonets")
    assert "did you mean 'protonet'" in error.remedy
    assert "random" in error.expected


@pytest.mark.parametrize("spec", ["plugin.py", "plugin:Class", "a.py:", ":A", "a.py:b c", ""])
def test_other_forms_are_refused(spec):
    with pytest.raises(BenchError):
        find_method(spec)


def test_missing_file(tmp_path):
    error = failure(f"{tmp_path}/none.py:A")
    assert "none.py" in error.what
    assert "No such file" in error.found


def test_missing_class_names_the_nearest(tmp_path):
    path = write(tmp_path, f"{HEAD}class Mine(Method):\n    name = 'm'\n{ADAPT}")
    error = failure(f"{path}:Mime")
    assert "Mine" in error.expected
    assert f"{path}:Mine" in error.remedy


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (f"{HEAD}import no_such_module_here\n", "plugin.py:2: import no_such_module_here"),
        (f"{HEAD}\nx = 1 / 0\n", "plugin.py:3: x = 1 / 0"),
        (f"{HEAD}def f(:\n    pass\n", "plugin.py:2: def f(:"),
        (f"{HEAD}raise SystemExit(3)\n", "SystemExit: 3 at"),
    ],
)
def test_a_file_that_does_not_import_shows_the_line(tmp_path, text, part):
    path = write(tmp_path, text)
    error = failure(f"{path}:A")
    assert "can't be imported" in error.what
    assert part in error.found


def test_a_file_with_null_bytes(tmp_path):
    path = tmp_path / "plugin.py"
    path.write_bytes(b"\0\xff")
    assert "can't be imported" in failure(f"{path}:A").what


@pytest.mark.parametrize(
    ("body", "what", "found"),
    [
        ("A = 3\n", "is not a method", "3"),
        ("class A:\n    pass\n", "is not a method", "class"),
        ("A = Method\n", "is not a method", "Method"),
        ("class A(Method):\n    name = 'a'\n", "is not complete", "adapt"),
        (f"class A(Method):\n{ADAPT}", "no usable name", "no attribute"),
        (f"class A(Method):\n    name = ''\n{ADAPT}", "no usable name", "''"),
        (f"class A(Method):\n    name = 'a/b'\n{ADAPT}", "no usable name", "a/b"),
        (f"class A(Method):\n    name = 'a'\n    Params = 3\n{ADAPT}", "no usable Params", "3"),
        (
            "class P(MethodParams):\n    k: int\n"
            f"class A(Method):\n    name = 'a'\n    Params = P\n{ADAPT}",
            "without a default",
            "k",
        ),
    ],
)
def test_incomplete_classes(tmp_path, body, what, found):
    error = failure(f"{write(tmp_path, HEAD + body)}:A")
    assert what in error.what
    assert found in error.found


def entry(name, value):
    return EntryPoint(name, value, discovery.METHODS.group)


def test_a_broken_entry_point_harms_no_other(monkeypatch):
    points = [
        entry("good", "tests.fakes.plugins.minimal:Minimal"),
        entry("gone", "no_such_package.methods:Gone"),
        entry("noclass", "tests.fakes.plugins.minimal:Gone"),
        entry("twice", "tests.fakes.plugins.minimal:Minimal"),
        entry("twice", "tests.fakes.plugins.faulty_training:Trained"),
        entry("same", "tests.fakes.plugins.minimal:Minimal"),
        entry("same", "tests.fakes.plugins.minimal:Minimal"),
    ]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)
    rows = {row.name: row for row in list_methods()}
    assert list(rows) == ["gone", "good", "noclass", "same", "twice"]
    assert rows["good"].loaded is not None
    assert rows["same"].loaded is not None
    assert "no_such_package" in rows["gone"].reason
    assert "Gone" in rows["noclass"].reason
    assert "two packages" in rows["twice"].reason
    assert all(rows[name].loaded is None for name in ("gone", "noclass", "twice"))


class Colour(enum.Enum):
    red = "red"
    blue = "blue"


class Everything(MethodParams):
    i: int = Field(1, ge=1, le=9, description="an integer")
    f: float = Field(0.5, gt=0, description="a number")
    b: bool = Field(False, description="a switch")
    c: Colour = Field(Colour.red, description="a colour")
    s: Literal["one", "two"] = Field("one", description="a choice")
    l: list[int] = Field([1], description="integers")  # noqa: E741
    t: tuple[float, float] = Field((0.0, 1.0), description="a pair")
    o: int | None = Field(None, description="perhaps an integer")
    ol: list[float] | None = Field(None, description="perhaps numbers")
    text: str = Field("", description="any text")

    @model_validator(mode="after")
    def _together(self):
        if self.i == 3 and self.b:
            raise ValueError("3 does not go with b")
        return self


class Takes(Method):
    name = "takes"
    Params = Everything
    presets = {"big": {"i": 9, "f": 2.0}, "odd": {"j": 1}}  # noqa: RUF012

    def adapt(self, support):
        return lambda query: None


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("i", "7", 7),
        ("f", "1e-3", 1e-3),
        ("f", "2", 2.0),
        ("b", "true", True),
        ("b", "0", False),
        ("c", "blue", Colour.blue),
        ("s", "two", "two"),
        ("l", "1,2, 3", [1, 2, 3]),
        ("l", "[4, 5]", [4, 5]),
        ("l", "", []),
        ("t", "1,2.5", (1.0, 2.5)),
        ("o", "4", 4),
        ("o", "none", None),
        ("ol", "1,2", [1.0, 2.0]),
        ("ol", "none", None),
        ("text", "a=b", "a=b"),
    ],
)
def test_texts_become_values(key, text, value):
    assert getattr(build_params(Takes, {key: text}, None), key) == value


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("i", "ten", "integer >= 1 and <= 9"),
        ("i", "0", "integer >= 1 and <= 9"),
        ("i", "2.5", "integer"),
        ("f", "nan", "number > 0"),
        ("f", "inf", "finite number > 0"),
        ("b", "perhaps", "boolean"),
        ("c", "green", "one of: red, blue"),
        ("s", "three", "one of: one, two"),
        ("l", "1,x", "list of integer"),
        ("l", "[1,", "list of integer"),
        ("t", "1", "array"),
        ("o", "x", "integer or none"),
    ],
)
def test_bad_values_name_type_and_range(key, text, expected):
    with pytest.raises(BenchError) as caught:
        build_params(Takes, {key: text}, None)
    assert key in caught.value.what
    assert expected in caught.value.expected
    assert text in caught.value.found


def test_settings_override_presets_and_presets_defaults():
    assert build_params(Takes, {}, None) == Everything()
    assert build_params(Takes, {}, "big").i == 9
    params = build_params(Takes, {"i": "2"}, "big")
    assert (params.i, params.f) == (2, 2.0)


def test_unknown_names_give_the_nearest():
    for settings, preset, part in (
        ({"textt": "1"}, None, "'text'"),
        ({}, "bigg", "'big'"),
        ({}, "odd", "one of the names"),
    ):
        with pytest.raises(BenchError) as caught:
            build_params(Takes, settings, preset)
        assert part in caught.value.remedy


def test_values_that_do_not_go_together():
    with pytest.raises(BenchError, match="don't go together") as caught:
        build_params(Takes, {"i": "3", "b": "yes"}, None)
    assert "3 does not go with b" in caught.value.found


def test_settings_are_pairs():
    assert parse_settings(None, None, ["a=1", "b = x=y"]) == {"a": "1", "b": "x=y"}
    for bad in (["a"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(BenchError):
            parse_settings(None, None, bad)


def test_description_of_every_shipped_parameter():
    for name in method_names():
        params = find_method(name).Params
        for field, info in params.model_fields.items():
            assert info.description, f"{name}.{field}"
            assert describe_parameter(params, field)


def test_a_class_that_can_not_be_made(tmp_path):
    path = write(
        tmp_path,
        f"{HEAD}class A(Method):\n    name = 'a'\n"
        f"    def __init__(self, params=None):\n        raise KeyError('x')\n{ADAPT}",
    )
    with pytest.raises(BenchError, match="can't be made") as caught:
        make_method(f"{path}:A", {}, None)
    assert "plugin.py:5" in caught.value.found


def test_short_settings_give_way_to_what_does_not_go_with_them():
    class Params(MethodParams):
        form: Literal["whole", "plain"] = "whole"
        size: int = 100
        epochs: int = 100

        @model_validator(mode="after")
        def _consistent(self):
            if self.form == "plain":
                self.without_effect("form=plain", "size")
            return self

    Short = type("Short", (find_method("constant"),), {"Params": Params, "name": "short"})
    Short.check_settings = {"size": "3", "epochs": "1"}
    assert small_settings(Short, {}, None) == {"size": "3", "epochs": "1"}
    assert small_settings(Short, {"epochs": "7"}, None) == {"epochs": "7", "size": "3"}
    assert small_settings(Short, {"epochs": "7"}, None, first=True)["epochs"] == "1"
    assert small_settings(Short, {"form": "plain"}, None) == {"form": "plain", "epochs": "1"}
    with pytest.raises(BenchError, match="epochs"):
        small_settings(Short, {"epochs": "many"}, None)
    Short.check_settings = {"epochs": "many"}
    with pytest.raises(BenchError, match="epochs"):
        small_settings(Short, {}, None)


def test_what_methods_new_writes_is_a_method_that_passes_the_cheap_checks(tmp_path):
    from click.testing import CliRunner

    from mlfsic_bench.cli.main import cli
    from mlfsic_bench.testing.check import refuse_faulty

    file = tmp_path / "mine.py"
    written = CliRunner().invoke(cli, ["methods", "new", str(file)])
    assert written.exit_code == 0
    assert "methods check mine.py:MyMethod" in file.read_text()
    assert find_method(f"{file}:MyMethod").name == "my-method"
    refuse_faulty(f"{file}:MyMethod", {"scale": "3"}, None)
    again = CliRunner().invoke(cli, ["methods", "new", str(file)])
    assert again.exit_code != 0


def test_a_text_side_without_label_embeddings_is_refused(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from mlfsic_bench.methods.contract import Method\n\n\n"
        "class Mine(Method):\n"
        '    name = "mine"\n'
        "    needs_text_side = True\n\n"
        "    def adapt(self, support):\n"
        "        return lambda query: query.pooled() @ support.embeddings.T\n"
    )
    with pytest.raises(BenchError, match="declares no label embeddings"):
        find_method(f"{file}:Mine")
