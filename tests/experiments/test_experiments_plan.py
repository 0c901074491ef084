"""From options to runs: substitutes, words, seeds, and which runs tables share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mlfsic_bench.errors import BenchError
from mlfsic_bench.experiments import schema
from mlfsic_bench.experiments.plan import Options, PlannedRow, plan_rows
from mlfsic_bench.experiments.schema import find_profile, read_experiment


def planned(name: str, options: Options) -> dict[str, PlannedRow]:
    rows = plan_rows(read_experiment(name)[1], find_profile(options.dataset), options)
    return {row.spec.name: row for row in rows}


def folders(row: PlannedRow) -> list[str]:
    return [run.folder.name for run in row.runs]


def test_the_full_model_is_trained_once_for_all_tables() -> None:
    options = Options("scenes")
    own = folders(planned("table1", options)["Yan et al. (printed form)"])
    assert len(own) == len(set(own)) == 3
    assert own == folders(planned("table2", options)["Yan et al. (printed form)"])
    assert own == folders(planned("table3", options)["Full model"])
    assert own == folders(planned("table5", options)["8"])
    assert own == folders(planned("table6", options)["Without Fine-tuning"])
    assert own == folders(planned("figure4", options)["Full model"])


def test_runs_that_differ_have_folders_of_their_own() -> None:
    options = Options("scenes")
    names = ["table1", "table3", "table5", "table6", "learning-curve"]
    rows = [row for name in names for row in planned(name, options).values()]
    told = {run.folder: replace(run.plan, out=None) for r in rows for run in r.runs}
    made: dict[str, Path] = {}
    for folder, plan in told.items():
        # n_a=8 is the default: those two plans are one run, and nothing else is
        settings = {k: v for k, v in plan.settings.items() if (k, v) != ("n_a", "8")}
        key = str(replace(plan, settings=settings))
        assert made.setdefault(key, folder) == folder


def test_networks_without_a_substitute_are_named_and_not_dropped(tmp_path: Path) -> None:
    rows = planned("table1", Options("coco-subset", data_root=tmp_path))
    assert rows["Fine-tuning (ResNet-101)"].not_run == "no weights at hand in place of resnet101"
    assert (
        rows["Fine-tuning (ResNet-50 + ViT)"].not_run == "no weights at hand in place of vit_b_16"
    )
    assert rows["Fine-tuning (ResNet-50)"].runs[0].plan.backbone == "efficientnet-lite2"
    assert rows["Yan et al. (printed form)"].not_run == "no file for glove-300"


def test_backbone_and_weights_stand_for_resnet50_only() -> None:
    rows = planned("table1", Options("scenes", backbone="scenes-deep", weights="none"))
    plans = {name: row.runs[0].plan for name, row in rows.items()}
    one = plans["Fine-tuning (ResNet-50)"]
    assert (one.backbone, one.weights) == ("scenes-deep", "none")
    assert (plans["Fine-tuning (ViT)"].backbone, plans["Fine-tuning (ViT)"].weights) == (
        "scenes-patch",
        "default",
    )
    both = plans["Fine-tuning (ResNet-50 + ViT)"]
    assert (both.backbone, both.weights) == ("scenes-deep+scenes-patch", "none+default")


@pytest.mark.parametrize("name", ["glove.6B.200d.txt", "wordvec/glove.6B.200d.labels.txt"])
def test_the_first_file_of_words_that_is_there(name: str, tmp_path: Path) -> None:
    options = Options("coco-subset", data_root=tmp_path)
    assert planned("table4", options)["GloVe-200"].not_run == "no file for glove-200"
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("cat 1 2\n")
    row = planned("table4", options)["GloVe-200"]
    assert row.runs[0].plan.embeddings == tmp_path / name


def test_several_sets_of_words_must_all_be_there(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "schema_version: 1\nkind: table\ntitle: t\nrows:\n"
        "  - {name: A, method: word-prior, embeddings: glove-50+bert-768}\n"
        "  - {name: B, method: word-prior, embeddings: bert-768+glove-50}\n"
    )
    options = Options("coco-subset", data_root=tmp_path)
    (tmp_path / "glove.6B.50d.txt").write_text("cat 1 2\n")
    assert planned(str(path), options)["A"].not_run == "no file for bert-768"
    (tmp_path / "bert.768d.txt").write_text("cat 1 2\n")
    rows = planned(str(path), options)
    glove, bert = tmp_path / "glove.6B.50d.txt", tmp_path / "bert.768d.txt"
    assert rows["A"].runs[0].plan.embeddings == Path(f"{glove}+{bert}")
    assert "glove.6B.50d_bert.768d" in folders(rows["A"])[0]
    assert folders(rows["A"]) != folders(rows["B"])
    path.write_text(path.read_text().replace("glove-50+bert-768", "glove-50+bert-76"))
    with pytest.raises(BenchError, match="did you mean 'bert-768'"):
        planned(str(path), options)


def test_words_are_looked_for_below_the_environment_variable_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "glove.6B.300d.txt").write_text("cat 1 2\n")
    monkeypatch.setenv("MLFSIC_DATA", str(tmp_path))
    assert planned("table3", Options("coco-subset"))["Full model"].runs


def test_a_row_that_needs_words_must_name_them(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "schema_version: 1\nkind: table\ntitle: t\nrows:\n"
        "  - {name: A, method: word-guided-attention}\n"
    )
    with pytest.raises(BenchError, match="names no label embeddings"):
        planned(str(path), Options("coco-subset", data_root=tmp_path))
    path.write_text(path.read_text().replace("attention}", "attention, embeddings: glov-300}"))
    for options in (Options("coco-subset", data_root=tmp_path), Options("scenes")):
        with pytest.raises(BenchError, match="did you mean 'glove-300'"):
            planned(str(path), options)


def test_seeds_of_trained_methods() -> None:
    rows = planned("table1", Options("scenes"))
    assert [len(rows[name].runs) for name in ("Random", "PLA", "Yan et al. (printed form)")] == [
        1,
        1,
        3,
    ]
    rows = planned("table1", Options("scenes", seeds=2))
    assert [len(rows[name].runs) for name in ("Random", "PLA", "Yan et al. (printed form)")] == [
        1,
        2,
        2,
    ]
    assert [run.plan.seed for run in rows["Yan et al. (printed form)"].runs] == [0, 1]


def test_a_profile_can_limit_the_episodes_of_a_slow_method(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = schema.read_profiles()
    limited = shipped.profiles["scenes"].model_copy(update={"episodes": {"pla": 60}})
    profiles = shipped.model_copy(update={"profiles": {**shipped.profiles, "scenes": limited}})
    monkeypatch.setattr(schema, "read_profiles", lambda: profiles)
    rows = planned("table1", Options("scenes"))
    assert [rows[name].runs[0].plan.episodes for name in ("PLA", "LaSO")] == [60, None]


def test_features_of_methods_that_train() -> None:
    rows = planned("table1", Options("scenes", features="end-to-end"))
    assert rows["Yan et al. (printed form)"].runs[0].plan.features == "end-to-end"
    assert rows["ProtoNet"].runs[0].plan.features == "stored"
    whole = planned("table1", Options("coco"))["Fine-tuning (ResNet-50)"].runs[0].plan
    assert (whole.features, whole.settings["tune"]) == ("end-to-end", "all")
    frozen = (
        planned("table1", Options("coco", features="stored"))["Fine-tuning (ResNet-50)"]
        .runs[0]
        .plan
    )
    assert (frozen.features, "tune" in frozen.settings) == ("stored", False)


def test_a_rows_settings_come_after_the_profiles(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "schema_version: 1\nkind: table\ntitle: t\nrows:\n"
        "  - {name: A, method: pla, settings: {epochs: 3, alignment: mla}}\n"
    )
    plan = planned(str(path), Options("scenes"))["A"].runs[0].plan
    assert plan.settings == {"epochs": "3", "alignment": "mla"}
    path.write_text(path.read_text().replace("epochs", "epoch"))
    with pytest.raises(BenchError, match="epochs"):
        planned(str(path), Options("scenes"))


def test_a_learning_curve_has_a_run_for_every_size_and_seed() -> None:
    rows = planned("learning-curve", Options("scenes", seeds=2))
    own = rows["Yan et al. (printed form)"].runs
    assert [(run.plan.base_images, run.plan.seed) for run in own[:3]] == [
        (200, 0), (200, 1), (1000, 0),
    ]  # fmt: skip
    assert own[-1].plan.base_images is None
    assert len(rows["ProtoNet"].runs) == 1
    assert own[0].plan.split == "scenes-12-6-6-20k-v1"


def test_base_labels_and_images_of_a_row_reach_its_runs(tmp_path: Path) -> None:
    head = "schema_version: 1\ntitle: Mine\n"
    row = "{name: A, method: linear, base_labels: 6"
    path = tmp_path / "mine.yaml"
    path.write_text(f"{head}kind: table\nrows:\n  - {row}, base_images: 100}}\n")
    run = planned(str(path), Options("scenes", seeds=1))["A"].runs[0]
    assert (run.plan.base_labels, run.plan.base_images) == (6, 100)
    assert "-6labels-100images-seed0-" in run.folder.name
    path.write_text(f"{head}kind: curve\nbase_images: {{scenes: [50, all]}}\nrows:\n  - {row}}}\n")
    runs = planned(str(path), Options("scenes", seeds=1))["A"].runs
    assert [(r.plan.base_labels, r.plan.base_images) for r in runs] == [(6, 50), (6, None)]
    path.write_text(path.read_text().replace("base_labels: 6", "base_images: 6"))
    with pytest.raises(BenchError, match="not to a row of it"):
        planned(str(path), Options("scenes"))


def test_an_unknown_row_names_the_nearest() -> None:
    with pytest.raises(BenchError, match="did you mean 'ProtoNet'"):
        planned("table1", Options("scenes", only=("Protonet",)))


def test_k_and_q_of_a_row_mean_what_they_mean_to_run() -> None:
    _, experiment = read_experiment("table1")
    protonet = next(row for row in experiment.rows if row.method == "protonet")
    chosen = [{}, {"shots": 5}, {"shots": 5, "queries": 9}, {"protocol": "disjoint_per_label"}]
    rows = [protonet.model_copy(update={"name": str(i), **keys}) for i, keys in enumerate(chosen)]
    changed = experiment.model_copy(update={"rows": rows, "reference": None})
    planned = plan_rows(changed, find_profile("scenes"), Options("scenes"))
    runs = [row.runs[0] for row in planned]
    titles = [run.plan.protocol.title for run in runs if run.plan.protocol]
    assert titles == [
        "one_per_label-v1",
        "k_per_label-v1, K = 5, Q = 4",
        "k_per_label-v1, K = 5, Q = 9",
        "disjoint_per_label-v1, K = 1, Q = 4",
    ]
    names = [run.folder.name for run in runs]
    assert len(set(names)) == 4
    assert "-5shot9query-" in names[2]
