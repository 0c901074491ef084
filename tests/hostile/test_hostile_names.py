"""A name in a file is never opened, run or fetched, whatever stands in its place (A1, A2, B1)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlfsic_bench.analysis.score import score_files
from mlfsic_bench.cli.main import main
from mlfsic_bench.errors import BenchError
from mlfsic_bench.results.reopen import RunPaths, reopen
from tests.hostile.fields import listed, places, put, text_fields
from tests.hostile.kinds import KINDS
from tests.hostile.sound import SPLIT
from tests.hostile.watch import touched

LURE = "canary"  # stands in the name of every file that must not be opened
PATHS = (
    "{here}/canary.json",
    "../canary.json",
    "canary.py:Method",
    "{here}/canary.py:Method",
    "https://example.org/canary.json",
    "file://{here}/canary.json",
)
TEXTS = ("canary\0.json", "canary\ud800.json", "canary\u202e", "canary\u2028", "cana\u0301ry")
LONG = "canary" * 400

# Read as one of known names, or of a fixed form: every attack is refused.
NAMES = listed("""
    Dates.made Dates.submitted Entry.figures[key] Entry.id Entry.metrics_version EpisodesMeta.hash
    EpisodesMeta.protocol RowSpec.protocol
    Experiment.columns
    EpisodesMeta.part Experiment.backbones Experiment.backbones[key] Experiment.base_images[key]
    Experiment.not_on[key] Experiment.published Experiment.reference Experiment.splits
    Experiment.splits[key] ProtocolRef.episodes ProtocolRef.id Record.ended Record.key
    Record.labels[key] Record.metrics[key] Record.outputs Record.outputs[key]
    Record.excluded_labels[key] Record.started Record.subset[key] Record.undefined[key]
    Reported.copy_in RowSpec.backbone RowSpec.method RowSpec.preset
    RowSpec.published RowSpec.settings RowSpec.settings[key] RowSpec.embeddings ScoresFile.answers
    ScoresFile.answers_sha256 ScoresFile.record ScoresFile.record_sha256 ScoresFile.run
    ScoresFile.scores ScoresFile.scores_sha256 ScoresMeta.order_of ScoresMeta.run SplitMeta.hash
    SplitFile.dataset
    Excluded.hash SplitFile.hash SplitFile.id SplitRef.hash SplitRef.id Card.id Card.made
    Card.submitted EmbeddingsMeta.hash
    PackManifest.files PackManifest.files[key] PackManifest.networks PackManifest.networks[key]
    PackedSplit.hash Measured.metrics[key]
    Sweep.backbones Sweep.embeddings Sweep.protocol Sweep.splits Sweep.weights
    SweepMethod.method SweepMethod.preset SweepMethod.settings SweepMethod.settings[key]
    SweepMethod.grid SweepMethod.grid[key] SlurmJobs.partition SlurmJobs.account SlurmJobs.qos
    SlurmJobs.constraint SlurmJobs.memory Submitted.jobs Submitted.jobs[key]
""")
# Shown, and looked up where a run is opened again: see REOPENED.
SHOWN = listed("""
    TargetsMeta.labels Entry.authors Entry.backbone Entry.contact Entry.name
    Experiment.not_on Experiment.title Failure.stage FeaturesMeta.backbone FeaturesMeta.transform
    FeaturesMeta.weights FeaturesMeta.weights_hash LabelValue.label LabelLists.base
    LabelLists.novel LabelLists.val Link.title Link.url MethodMeta.changed MethodMeta.name
    MethodMeta.printed
    MethodMeta.parameters[key] MethodMeta.preset MethodFacts.method MethodFacts.parameters[key]
    MethodFacts.preset PartCounts.labels[key] Provenance.commit Provenance.packages
    Provenance.packages[key] Provenance.python Provenance.version Record.identity[key]
    Record.labels Record.excluded_labels Reported.row Reported.section RowSpec.name
    ScoresMeta.labels
    SplitMeta.dataset SplitMeta.id SplitMeta.rule SplitRef.dataset Stage.name
    Card.authors Card.backbone Card.contact Card.name
    EmbeddingsMeta.name FeaturesMeta.rounded
    PackManifest.dataset PackManifest.weights PackManifest.version PackedSplit.id
    PackedSplit.protocol Measured.method
    EmbeddingsMeta.templates EmbeddingsMeta.space FeaturesMeta.vector Sweep.title
""")
# For people to read; an output escapes them.
FREE = listed("""
    Audit.reason Entry.citation Entry.notes Failure.message MethodMeta.bibtex MethodMeta.citation
    MethodMeta.parameters
    MethodFacts.parameters Provenance.command Provenance.device Provenance.images
    Provenance.labels Provenance.platform Provenance.processor Provenance.rule Record.identity
    Record.notes Record.subset Reported.work Card.citation Card.notes
    FeaturesMeta.made_by FeaturesMeta.pretraining PackManifest.made_by
    SplitFile.differs_from_official SplitMeta.differs_from_official SplitRef.differs_from_official
""")
# Files that ship, and what SplitMeta and SplitRef have in common.
OURS = ("Profile.", "Profiles.", "Published", "Rates.", "Seeds.", "Source.", "NamedSplit.")
REOPENED = ("method.name", "split.id", "features.backbone", "features.weights")


def _attacks(name: str, here: Path) -> Iterator[tuple[str, bool]]:
    """(text, whether it must be refused in a field of that name)."""
    for text in PATHS:
        yield text.format(here=here), name in NAMES
    if name not in FREE:
        for text in (*TEXTS, LONG):
            yield text, True


def test_every_text_of_a_file_is_a_name_or_free() -> None:
    """A new field of a schema must be put in one of the lists above."""
    found = {name for name in text_fields() if not name.startswith(OURS)}
    assert found == NAMES | SHOWN | FREE
    assert len(found) == len(NAMES) + len(SHOWN) + len(FREE)


def test_the_sound_values_have_every_field(here: Path) -> None:
    names = set()
    for kind in KINDS.values():
        value = kind.value()
        names |= {name for name, _, _ in places(value, kind.model)}
        kind.write(value)
        kind.read()
    assert names >= NAMES | SHOWN


@pytest.mark.parametrize("kind", KINDS)
def test_a1_a2_no_name_is_opened_run_or_fetched(kind: str, here: Path) -> None:
    one = KINDS[kind]
    value = one.value()
    for name, path, key in places(value, one.model):
        for text, refused in _attacks(name, here):
            changed = copy.deepcopy(value)
            put(changed, path, key, text)
            one.write(changed)
            what = f"{name}: {text[:60]!a}"
            error = None
            with touched(LURE) as seen:
                try:
                    one.read()
                except BenchError as caught:
                    error = caught
            assert not seen, what
            assert error is not None or not refused, what
    assert not Path("executed").exists()


@pytest.mark.parametrize("name", REOPENED)
def test_a1_a2_a_run_is_opened_again_by_known_names_only(name: str, here: Path) -> None:
    value = KINDS["record"].value()
    known = ("protonet", SPLIT, "scenes-small", "default")
    value |= {"subset": None, "words": None, "base_images": None}
    value["method"]["parameters"] = {}  # so that nothing else stands in the way of opening it
    for each, text in zip(REOPENED, known, strict=True):
        put(value, tuple(each.split(".")), False, text)
    KINDS["record"].write(value)
    with pytest.raises(BenchError, match="is not what is here now"):
        reopen(Path("run"), RunPaths())
    attacks = [text for text, _ in _attacks("MethodMeta.name", here)]
    for text in (*attacks, "canary.json", "canary"):
        put(value, tuple(name.split(".")), False, text)
        KINDS["record"].write(value)
        with touched(LURE) as seen, pytest.raises(BenchError):
            reopen(Path("run"), RunPaths())
        assert not seen, text
    assert not Path("executed").exists()


def test_a2_the_split_of_a_scores_file_is_a_shipped_one(here: Path) -> None:
    value = KINDS["scores"].value()
    for text in (*(text.format(here=here) for text in PATHS), "canary.json", "canary"):
        value["split"]["id"] = text
        KINDS["scores"].write(value)
        with touched(LURE) as seen, pytest.raises(BenchError, match=r"unknown split|not the one"):
            score_files([Path("scores.npz")])
        assert not seen, text


@pytest.mark.parametrize("verb", ["attention", "pointing"])
def test_a1_a_record_does_not_name_code(
    verb: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = KINDS["record"].value()
    value["method"]["name"] = "canary.py:M"
    value["method"]["parameters"] = {}
    KINDS["record"].write(value)
    with touched(LURE) as seen, pytest.raises(SystemExit) as end:
        main([verb, "run", "--out", "x.png"])
    assert (end.value.code, seen) == (2, [])
    error = capsys.readouterr().err
    assert error.startswith("error: unknown method in a file 'canary.py:M'")
    assert error.count("error: ") == 1
    assert "--method FILE.py:Class" in error
    assert not Path("executed").exists()


ROW = "schema_version: 1\nkind: table\ntitle: T\n%srows:\n- {name: a, method: %s, episodes: 2}\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (ROW % ("", r'"a\0b.py:M"'), "U+0000 is one"),
        (ROW % ("", r'"a\ud800b.py:M"'), "Unicode text"),
        (ROW % ('splits: {scenes: "' + 300 * "x" + '"}\n', "random"), "splits.scenes"),
        (ROW % ("", "canary.py:M"), "--method NAME=path/to/file.py:Class"),
        (ROW % ("splits: {scenes: ./canary.json}\n", "random"), "splits.scenes"),
        (ROW % ("splits: {scenes: canary.json}\n", "random"), "unknown split in a file"),
        (ROW % ("splits: {scene: coco-52-12-16-v1}\n", "random"), "did you mean 'scenes'"),
        (ROW % ("backbones: {voc: {resnet50: canary}}\n", "random"), "unknown backbone in a file"),
        (ROW % (r'not_on: {scenes: "\e]0;pwned\a"}' + "\n", "random"), "U+001B is one"),
    ],
)
def test_a2_b1_an_experiment_file_names_nothing_outside(
    text: str, says: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("own.yaml").write_text(text)
    with touched(LURE) as seen, pytest.raises(SystemExit) as end:
        main(["reproduce", "own.yaml", "--dataset", "scenes", "--dry-run"])
    assert (end.value.code, seen) == (2, [])
    error = capsys.readouterr().err
    assert says in error
    assert error.startswith("error: ")
    assert error.count("error: ") == 1
    assert not Path("executed").exists()
