"""A run whose method, split, backbone or label embeddings are given as Python objects."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from mlfsic_baselines.prototypes.protonet import ProtoNet

from mlfsic_bench.data.scenes import Scenes
from mlfsic_bench.embeddings.label_embeddings import make_label_embeddings
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.inputs import open_inputs
from mlfsic_bench.evaluation.maker import maker_of, name_of
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.evaluation.resources import ResourceCache
from mlfsic_bench.evaluation.runner import run_method
from mlfsic_bench.evaluation.scores import read_scores
from mlfsic_bench.features.backbones.registry import build_backbone
from mlfsic_bench.methods.contract import Method
from mlfsic_bench.plugins.doors import Door
from mlfsic_bench.splits.resolve import resolve_split

SPLIT = "scenes-12-6-6-v1"


def local_class() -> type[Method]:
    """A class as a notebook defines one: no file gives it again."""

    class Here(Method):
        name = "here"

        def adapt(self, support):
            f = support.images.pooled()
            p = support.targets.T @ f / support.targets.sum(0)[:, None]
            return lambda query: query.pooled() @ p.T

    return Here


def plan(method, **options) -> RunPlan:
    return RunPlan(method, **{"split": SPLIT, "backbone": "scenes-small", "episodes": 2, **options})


def run(made, folder):
    path = run_method(RunPlan(**{**vars(made), "out": folder}))
    return read_record(path), read_scores(path / "scores.npz").scores


def test_objects_give_the_key_and_the_scores_of_names(tmp_path):
    named, scores = run(plan("protonet", settings={"scale": "10"}), tmp_path / "named")
    split = resolve_split(SPLIT, data_root=None)
    network = build_backbone("scenes-small")
    objects = [
        plan(ProtoNet, settings={"scale": 10.0}),
        plan(ProtoNet(ProtoNet.Params(scale=10.0)), split=split, backbone=network),
    ]
    for number, made in enumerate(objects):
        record, again = run(made, tmp_path / str(number))
        assert record.key == named.key
        assert record.audit_status == "passed"
        np.testing.assert_array_equal(again, scores)


def test_a_network_that_was_trained_meanwhile_is_refused():
    network = build_backbone("scenes-small")
    with torch.no_grad():
        next(network.parameters()).add_(1)
    with pytest.raises(BenchError, match="have changed since it was made"):
        open_inputs(plan("protonet", backbone=network))


def test_what_was_written_anew_is_opened_anew(tmp_path):
    file, opened = tmp_path / "net.py", ResourceCache()
    hashes = []
    for side in (4, 4, 8):
        text = (
            "from torch import nn\n"
            "from mlfsic_bench.features.backbones.base import Squash\n\n\n"
            f"def build(weights):\n    return nn.Conv2d(3, 4, 4, {side}), Squash(16)\n"
        )
        if not file.exists() or file.read_text() != text:
            file.write_text(text + "# longer\n" * (side // 8))
        made = plan("protonet", backbone=f"{file}:build", weights="none")
        hashes.append(opened.backbones(made)[0].grid)
    assert hashes == [(4, 4), (4, 4), (2, 2)]


def test_a_dataset_need_not_be_hashable():
    @dataclass
    class Equal(Scenes):
        root: object = None

    split = resolve_split(SPLIT, data_root=None)
    opened, given = ResourceCache(), Equal()
    made = plan("protonet", split=split, dataset=given)
    assert opened.dataset(made, "scenes") is opened.dataset(made, "scenes")
    other = plan("protonet", split=split, dataset=Equal())
    assert opened.dataset(other, "scenes") is not opened.dataset(made, "scenes")


def test_a_class_without_a_file_is_unversioned_and_each_run_is_its_own(tmp_path):
    here = local_class()
    first, scores = run(plan(here), tmp_path / "a")
    second, again = run(plan(here()), tmp_path / "b")
    assert first.key != second.key
    assert set(first.identity["method"]) == {"name", "unversioned", "parameters"}
    assert first.audit_status == "not made"
    np.testing.assert_array_equal(scores, again)


def test_a_class_in_a_file_has_the_name_of_its_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from mlfsic_bench.methods.contract import Method\n\n\n"
        "class Mine(Method):\n"
        '    name = "mine"\n\n'
        "    def adapt(self, support):\n"
        "        p = support.targets.T @ support.images.pooled()\n"
        "        return lambda query: query.pooled() @ p.T\n"
    )
    found = Door("mlfsic_bench.methods", "method").find(f"{file}:Mine")
    assert name_of(found) == f"{file}:Mine"
    by_name, by_class = maker_of(plan(f"{file}:Mine")), maker_of(plan(found))
    assert by_class.source == by_name.source != ""
    assert by_class.spec == by_name.spec


def test_label_embeddings_from_python_are_those_of_a_file():
    split = resolve_split(SPLIT, data_root=None)
    labels = [label for part in split.parts.values() for label in part.labels]
    given = make_label_embeddings(labels[::-1], np.eye(len(labels), 5)[::-1], "mine")
    opened = open_inputs(plan("word-guided-attention", embeddings=given))
    assert opened.embeddings is not None
    assert opened.embeddings.labels == tuple(labels)
    np.testing.assert_array_equal(opened.embeddings.vectors, np.eye(len(labels), 5))
    few = make_label_embeddings(labels[1:], np.ones((len(labels) - 1, 2)), "few")
    with pytest.raises(BenchError, match="few has no vector for 1 of"):
        open_inputs(plan("word-guided-attention", embeddings=few))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (plan(3), "what was given is not a method"),
        (plan(ProtoNet(), settings={"scale": 2}), "an object, which has its parameters"),
        (plan(dict), "is not a method"),
    ],
)
def test_what_is_no_method_is_one_clear_error(made, message):
    with pytest.raises(BenchError, match=message):
        maker_of(made)


def test_a_setting_the_class_lacks_is_named():
    with pytest.raises(BenchError, match="scal"):
        maker_of(plan(ProtoNet, settings={"scal": 2})).make()
