import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli, main
from mlfsic_bench.data.scenes import ATTRIBUTES
from mlfsic_bench.embeddings.label_embeddings import nearest_labels

TABLE = "cat 1 0 0\ndog 0.9 0.1 0\nhot 0 0 1\nbus 0 1 0\nbus 5 5 5\ntvmonitor 0 0.5 0.5\n"


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "v.txt"
    path.write_text(TABLE)
    return path


def run(*args):
    return CliRunner().invoke(cli, ["embeddings", *map(str, args)])


def refused(capsys, *args):
    with pytest.raises(SystemExit) as end:
        main(["embeddings", *map(str, args)])
    assert end.value.code == 2
    return capsys.readouterr().err


def test_show_says_how_each_label_is_found(table):
    result = run("show", table, "--labels", "cat,dog,hot dog,tv monitor,bus")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == f"{table}: text, 6 entries, 3 numbers"
    assert lines[1] == "more than once, the first counts: bus"
    assert " ".join(lines[2].split()) == "cat as it is dog 0.99, hot dog 0.67, tv monitor 0.00"
    assert "mean of hot, dog" in lines[4]
    assert "entry tvmonitor" in lines[5]
    assert lines[-1] == "5 of 5 labels have a vector"


def test_show_tells_a_joined_entry_and_refuses_prose(tmp_path, capsys):
    path = tmp_path / "joined.txt"
    path.write_text("hot_dog 1 0\ncat 0 1\n")
    assert "entry hot_dog" in run("show", path, "--labels", "hot dog").output
    path.write_text("one: two\nthree: four\n")
    assert "line 1 is not a line of vectors" in refused(capsys, "show", path)


def test_show_names_what_is_missing_and_exits_with_1(table):
    result = run("show", table, "--labels", "cat,zebra,dogs")
    assert result.exit_code == 1
    assert "no vector: 'zebra' (missing: zebra)" in result.output
    assert "no vector: 'dogs' (missing: dogs; the file has 'dog')" in result.output
    assert "1 of 3 labels have a vector" in result.output


def test_show_takes_a_split_and_prints_json(table):
    result = run("show", table, "--split", "voc-8-6-6-v1", "--format=json")
    assert result.exit_code == 1
    value = json.loads(result.output)
    assert (value["format"], value["entries"], value["dimension"]) == ("text", 6, 3)
    assert set(value["labels"]) == {"cat", "dog", "bus", "tvmonitor"}
    assert len(value["missing"]) == 16
    assert value["labels"]["tvmonitor"]["entries"] == ["tvmonitor"]
    assert value["labels"]["cat"]["nearest"][0][0] == "dog"


def test_show_without_labels_describes_the_file(table):
    result = run("show", table)
    assert (result.exit_code, result.output) == (0, f"{table}: text, 6 entries, 3 numbers\n")


def test_show_takes_the_format_and_says_what_the_header_promises(tmp_path):
    path = tmp_path / "v.vec"
    path.write_text("3 2\ncat 1 2\ndog 3 4\n")
    output = run("show", path, "--embeddings-format", "text").output
    assert "text with header, 2 entries" in output
    assert "the header says 3 entries, one more than there are" in output
    assert json.loads(run("show", path, "--format=json").output)["promised"] == 3
    path.write_bytes(b"1 1\ncat 12.5")
    assert "binary, 1 entries" in run("show", path, "--embeddings-format", "binary").output


def test_run_takes_the_format_of_the_words(tmp_path, capsys, monkeypatch):
    from mlfsic_bench.evaluation import runner as run
    from mlfsic_bench.evaluation.embeddings import label_embeddings
    from tests.fakes.world import Trained, fake_split

    path = tmp_path / "v.bin"
    path.write_bytes(b"1 3\nhen ABCDEFGHIJKL")  # reads as a damaged line of text
    # All that a run does with its words, without the rest of it.
    monkeypatch.setattr(
        run,
        "run_method",
        lambda plan, log, opened=None: label_embeddings(plan, fake_split(), Trained, None, list),
    )
    command = ["run", "random", "--split", "s", "--backbone", "b", "--embeddings", str(path)]
    for options, says in (
        ([], "line 2 is not"),
        (["--embeddings-format", "binary"], "no vector for"),
    ):
        with pytest.raises(SystemExit) as end:
            main([*command, *options])
        assert end.value.code == 2
        assert says in capsys.readouterr().err


def test_show_counts_entries_that_are_not_utf8(tmp_path):
    path = tmp_path / "v.txt"
    path.write_bytes(b"cat 1 2\n\xff 3 4\n")
    assert "1 entries are not UTF-8" in run("show", path).output


def test_show_the_embedded_vectors():
    result = run("show", "scenes")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) == 25
    value = json.loads(run("show", "scenes", "--split", "scenes-12-6-6-v1", "--format=json").output)
    assert value["dimension"] == len(ATTRIBUTES)
    assert len(value["labels"]) == 24
    for label, row in value["labels"].items():
        assert len(row["nearest"]) == 3
        assert label not in [name for name, _ in row["nearest"]]


def test_labels_are_named_in_one_way(table, capsys, tmp_path):
    both = refused(capsys, "show", table, "--labels", "cat", "--split", "voc-8-6-6-v1")
    assert "can't tell which labels" in both
    need = ["average", "--model", tmp_path, "--corpus", table, "--out", tmp_path / "o"]
    assert "found:    neither" in refused(capsys, *need)
    assert "an empty label" in refused(capsys, "show", table, "--labels", "cat,")
    assert "voc-8-6-6-v1" in refused(capsys, "show", table, "--split", "voc-8-6-6-v2")


def test_bad_files_are_one_error(tmp_path, capsys):
    path = tmp_path / "model.bin"
    path.write_bytes(b"\xba\x16O/" + bytes(40))
    assert "fastText model (.bin)" in refused(capsys, "show", path)
    assert "can't read" in refused(capsys, "show", tmp_path / "absent")
    (tmp_path / "b.txt").write_text("cat 1 2\ndog 1\n")
    assert "line 2" in refused(capsys, "show", tmp_path / "b.txt", "--labels", "cat")


def test_nearest_labels_against_a_plain_loop():
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(9, 4))
    vectors[5] = 0
    for row, near in enumerate(nearest_labels(vectors, 4)):
        scores = []
        for other in range(9):
            if other != row:
                norm = np.linalg.norm(vectors[row]) * np.linalg.norm(vectors[other])
                scores.append((-(vectors[row] @ vectors[other]) / norm if norm else 0.0, other))
        assert [other for other, _ in near] == [other for _, other in sorted(scores)[:4]]
        assert np.allclose([cosine for _, cosine in near], [-s for s, _ in sorted(scores)[:4]])


@pytest.fixture
def setting(tmp_path):
    pytest.importorskip("transformers")
    from tests.fakes.tiny_bert import write_corpus, write_tiny_bert

    model = write_tiny_bert(tmp_path / "tiny")
    corpus = write_corpus(tmp_path / "c.txt")
    return [
        "average",
        "--model",
        model,
        "--corpus",
        corpus,
        "--labels",
        "dog,cat",
        "--device",
        "cpu",
    ]


def test_average_writes_a_table_that_show_reads(setting, tmp_path):
    out = tmp_path / "bert.txt"
    result = run(*setting, "--out", out)
    assert result.exit_code == 0, result.output
    assert "4 lines mention it; 4 taken" in result.output
    shown = run("show", out, "--labels", "dog,cat")
    assert "2 of 2 labels have a vector" in shown.output
    assert Path(f"{out}.json").is_file()


@pytest.mark.parametrize(
    "flag", [["--mentions", "2"], ["--unmasked"], ["--layer", "1"], ["--labels", "dog,hot dog,cat"]]
)
def test_every_flag_of_average_changes_the_table(setting, tmp_path, flag):
    tables = []
    for extra in ([], flag):
        out = tmp_path / f"t{len(tables)}"
        assert run(*setting, *extra, "--out", out).exit_code == 0
        tables.append(out.read_text())
    assert tables[0] != tables[1]


def test_average_refuses_what_can_not_be(setting, tmp_path, capsys):
    out = ["--out", tmp_path / "o"]
    assert "cat 4" in refused(capsys, *setting, *out, "--min-mentions", "5")
    few = refused(capsys, *setting, *out, "--min-mentions", "5", "--mentions", "4")
    assert "no label can have enough" in few
    assert "no layer 9" in refused(capsys, *setting, *out, "--layer", "9")
    assert "too seldom" in refused(capsys, *setting[:5], "--split", "voc-8-6-6-v1", *out)
    import torch

    if not torch.cuda.is_available():
        assert "there is no cuda" in refused(capsys, *setting, *out, "--device", "cuda")
    assert not (tmp_path / "o").exists()
