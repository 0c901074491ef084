"""What the board says in words: its explanations, and sentences on one board, row or entry."""

from __future__ import annotations

from mlfsic_bench.leaderboard.board import (
    ABOVE,
    NEAR,
    NO_RUNS,
    RANKED_BY,
    Board,
    BoardRow,
    labels_text,
    protocol_title,
)
from mlfsic_bench.leaderboard.entry import (
    Adaptation,
    Audited,
    Chance,
    Embeddings,
    Entry,
    ImageTrack,
    Pretraining,
    Reported,
    State,
)
from mlfsic_bench.metrics.registry import METRICS
from mlfsic_bench.splits.names import unofficial

TITLE = "Multi-label few-shot image classification: leaderboard"
TASK = (
    "A method sees a few support images of labels that it has never trained on, and then scores "
    "every one of these labels for other images, each of which may show several."
)
RULE = (
    "Each table ranks methods by macro-AP: average precision in per cent, mean over the labels of "
    "an episode and over episodes; higher is better. Rows of one table were scored on the same "
    "images and episodes and can be compared; rows of different tables can't."
)
STATES = {
    State.REPORTED: "copied from a paper; nobody here has the scores, so it is not ranked",
    State.STORED: "scores and targets are those that a run stored; the targets were not rebuilt "
    "from the split, so it is not ranked",
    State.SCORES: "the scores, or their order, are in the repository, and every value was "
    "computed from them, with targets rebuilt from the split",
    State.RERUN: "scores verified, and a second run of every training seed gave the same values",
}
AUDITS = {
    Audited.YES: "a fresh process scored some episodes again and got the same scores",
    Audited.FOREIGN: "another program made the scores, so nothing here can make them again",
    Audited.FAILED: "a fresh process scored some episodes again and got other scores: not ranked",
    Audited.NO: "no fresh process has scored some episodes again: not ranked",
}
NAMES = (
    "COCO 52/12/16: base, validation and novel labels of the split. 1-shot: one support image for "
    "each novel label."
)
TIE = "Equal ranks (=): equal at two digits after the point."
NEAR_MEANS = (
    f"{NEAR} after a rank: the interval includes the value of the best row, so this table alone "
    "does not tell the two apart; mlfsic-bench compare may."
)
CHANCE_MEANS = (
    "below chance, at chance: no better than a random ranking of the same images, by the interval "
    "shown. Images with equal scores gain nothing from their order, so a method that gives all "
    "images the same score is below chance."
)
REPORTED_NOTE = (
    "Reported rows are copied from print. Their episodes, and often their images, are not those of "
    "the other rows, and nobody here has their scores: they are not ranked."
)
STORED_NOTE = "because the targets came with the scores and were not rebuilt from the split"
UNAUDITED_NOTE = "because no audit has scored some of its episodes again in a fresh process"
FAILED_NOTE = "because its audit failed"
UNLISTED_NOTE = "because it has no macro-AP"

WITH_INTERVAL = ("macro_ap", "micro_ap")

# Short words for a narrow column, with what they stand for; a dictionary for each track, because
# equal texts make members of different enums equal.
PRETRAINING_CHIPS = {
    Pretraining.EXTERNAL: (
        "external images",
        "pre-trained on images that are not of the base part",
    ),
    Pretraining.BASE: ("base images", "no images seen but the split's base images"),
    Pretraining.UNKNOWN: ("pre-training ?", "pre-training is not stated"),
}
EMBEDDINGS_CHIPS = {
    Embeddings.GIVEN: ("label embeddings", "given an embedding of each label's name"),
    Embeddings.NONE: ("no embeddings", "not given embeddings of the labels' names"),
    Embeddings.UNKNOWN: ("embeddings ?", "whether it has label embeddings is not stated"),
}
ADAPTATION_CHIPS = {
    Adaptation.GRADIENT: ("gradient", "adapts to an episode by gradient steps"),
    Adaptation.NONE: ("no gradient", "adapts to an episode without gradient steps"),
    Adaptation.UNKNOWN: ("adaptation ?", "adaptation is not stated"),
}
TRANSDUCTIVE_CHIP = ("transductive", "scores the query images of an episode together")
EMBEDDINGS_TEXT = {
    Embeddings.GIVEN: "label embeddings",
    Embeddings.NONE: "no label embeddings",
    Embeddings.UNKNOWN: "not stated",
}
TRACKS: tuple[tuple[str, str, list[tuple[str, str]]], ...] = (
    ("pre", "Pre-training", [(one.value, one.value) for one in Pretraining]),
    ("words", "Label embeddings", [(one.value, EMBEDDINGS_TEXT[one]) for one in Embeddings]),
    ("adapt", "Adaptation", [(one.value, one.value) for one in Adaptation]),
    ("query", "Query images", [("together", "scored together"), ("alone", "scored alone")]),
    ("images", "Images", [(one.value, one.value) for one in ImageTrack]),
)


def source_of(entry: Entry, *, row: bool = True) -> str:
    """Where a reported value stands, or what proves a verified one, in a few words."""
    proof = entry.proof
    if isinstance(proof, Reported):
        table = f"Table {proof.table}" if proof.table is not None else proof.section
        page = f", p. {proof.page}" if proof.page is not None else ""
        return f"{proof.work}, {table}{page}" + (f", row {proof.row}" if row else "")
    return f"scores {', '.join(file.scores_sha256[:12] for file in proof.files)}"


def load_line(entry: Entry) -> str:
    """One line that loads an entry: of shell for its scores, of Python for a reported one."""
    if isinstance(entry.proof, Reported):
        return (
            "from mlfsic_bench.leaderboard.entry import read_entry; "
            f'entry = read_entry("results/{entry.path}")'
        )
    places = [
        file.record.rpartition("/")[0] if file.record else file.scores for file in entry.proof.files
    ]
    return " ".join(["mlfsic-bench score", *(f"results/{place}" for place in places)])


def state_text(entry: Entry) -> str:
    """The state and, where there are scores, what is known of the audits of their runs."""
    known = entry.audited
    if known is None or known is Audited.FOREIGN:
        return known.value if known else entry.state.value
    return f"{entry.state.value}, {known.value}"


def conditions(board: Board) -> str:
    """What all scored rows share, by name and hash, in one sentence."""
    split, protocol = board.first.split, board.first.protocol
    parts = [f"Split {split.id}", f"protocol {protocol_title(protocol)}"]
    if split.hash and protocol.episodes:
        parts[0] += f" ({split.hash[:12]})"
        run = f"{protocol.count} of {protocol.total}"
        few = run if protocol.count != protocol.total else str(protocol.count)
        parts += [f"{few} episodes ({protocol.episodes[:12]})", str(board.first.metrics_version)]
    return ", ".join(parts) + "."


def level_text(level: Chance | None) -> str:
    """A level of chance in a table: at least the lowest one where the queries are not known."""
    if level is None:
        return "–"
    return f"{'' if level.low == level.high else '≥ '}{level.low:.2f}"


def chance_text(entry: Entry) -> str:
    """The level of a random ranking: exact where the queries are known; empty if not known."""
    texts = []
    for name in ("macro_ap", "micro_ap"):
        level = entry.chance.get(name)
        if level and level.low == level.high:
            texts.append(f"{METRICS[name].text} {level.low:.2f}")
        elif level:
            texts.append(
                f"{METRICS[name].text} {level.low:.2f} or more ({level.high:.2f} at 1.25 labels an "
                "image)"
            )
    return f"Chance: {', '.join(texts)}." if texts else ""


def remarks(board: Board) -> list[str]:
    """What a reader has to know of a board, in sentences."""
    lines = []
    if board.subset:
        lines.append("Part of the split's images only: not comparable with runs on all images.")
    split = board.first.split
    lines += unofficial(split.id, split.differs_from_official)
    if board.rows and (labels := labels_text(board.first)):
        lines.append(f"Values are over {labels}.")
    if not board.rows:
        lines.append(f"N{NO_RUNS[1:]}: every row is copied from print, and nothing is ranked.")
    foreign = [row.entry.name for row in board.rows if row.entry.audited is Audited.FOREIGN]
    if foreign:
        names = ", ".join(foreign)
        lines.append(f"Ranked on scores of another program, every value computed again: {names}.")
    together = [row.entry.name for row in board.all_rows if row.entry.tracks.transductive]
    if together:
        lines.append(
            "Transductive, the score of a query image depends on the others of its episode: "
            f"{', '.join(together)}."
        )
    return lines


def why_unranked(board: Board) -> list[str]:
    """Why rows with scores have no rank, in sentences."""
    left = [row.entry for row in board.rows if row.rank is None]
    lines = []
    for text, names in (
        (STORED_NOTE, [entry.name for entry in left if not entry.verified]),
        (UNAUDITED_NOTE, [one.name for one in left if one.audited is Audited.NO and one.verified]),
        (FAILED_NOTE, [one.name for one in left if one.audited is Audited.FAILED]),
        (UNLISTED_NOTE, [one.name for one in left if RANKED_BY not in one.figures]),
    ):
        if names:
            lines.append(f"Not ranked, {text}: {', '.join(names)}.")
    return lines


def chips(entry: Entry) -> list[tuple[str, str]]:
    """An entry's tracks in short words, and what they stand for."""
    tracks = entry.tracks
    return [
        PRETRAINING_CHIPS[tracks.pretraining],
        EMBEDDINGS_CHIPS[tracks.words],
        ADAPTATION_CHIPS[tracks.adaptation],
        *([TRANSDUCTIVE_CHIP] if tracks.transductive else []),
    ]


def query_track(entry: Entry) -> str:
    """`together` for a transductive method, whose query images are scored together, or `alone`."""
    return "together" if entry.tracks.transductive else "alone"


def verdict_text(row: BoardRow) -> str:
    """Which APs are not above chance, and by which interval; empty for none."""
    texts = [
        f"{METRICS[name].text} is {verdict}"
        for name, verdict in sorted(row.chance.items())
        if verdict != ABOVE
    ]
    by = f" by its interval over {row.judged_by.value}" if row.judged_by else ""
    return f"{' and '.join(texts)}{by} (docs/claims.md)." if texts else ""
