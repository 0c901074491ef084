"""A contextual vector for each label: the mean over a BERT model's vectors of its mentions.

After the BERT row of the paper's Table 4: "BERT-base with masking", the average of 1000
contextualised vectors a label. What the paper leaves open is in docs/methodology.md, M42. The
mentions come from a corpus: its sentences with a label, few taken of the many. The model is a local
folder. Nothing is fetched, and nothing in the folder is executed: transformers' own BertModel reads
numbers from config.json, and weights from safetensors or with torch's `weights_only`.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.embeddings.formats import open_packed
from mlfsic_bench.embeddings.label_embeddings import (
    check_labels,
    joined_form,
    spaced_form,
    write_label_table,
)
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import open_regular, read_json
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.offline import transformers_offline
from mlfsic_bench.paths import is_file, is_folder, resolved
from mlfsic_bench.randomness import stream_seed

if TYPE_CHECKING:
    import torch

LONGEST_SENTENCE = 2000  # characters; a longer line is not one sentence
LONGEST_LINE = 1 << 20  # bytes


@dataclass(frozen=True)
class Mention:
    """A sentence and where in it the label stands: `sentence[start:end]`."""

    sentence: str
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class Mentions:
    """What a corpus says of a list of labels.

    Attributes
    ----------
    taken: for each label, at most `most` mentions in different sentences, in the order of their
        keys (`collect_mentions`).
    sentences: for each label, how many lines mention it, repetitions included.
    lines, too_long, undecodable: lines of the corpus that are not empty; those of them that are
        longer than LONGEST_SENTENCE; those that are not UTF-8. The latter two are passed over.
    """

    taken: dict[str, list[Mention]]
    sentences: dict[str, int]
    lines: int
    too_long: int
    undecodable: int


def mention_pattern(labels: Sequence[str]) -> re.Pattern[str]:
    """A pattern whose group `l<i>` is a mention of label i.

    Whole words, capitals or not, one or more spaces or a hyphen between the words of a label, the
    last word also in its regular plural (-s; -es after s, x, z, ch, sh). Where labels overlap the
    one that begins first is taken, then the longer one: `hot dog` is no mention of `dog`.

    >>> pattern = mention_pattern(["dog", "hot dog", "bus"])
    >>> [m.lastgroup for m in pattern.finditer("Dogs on a bus eat hot dogs; no dogma, no buses")]
    ['l0', 'l2', 'l1', 'l2']
    """
    spellings = [
        (spelling, number)
        for number, label in enumerate(labels)
        for spelling in (spaced_form(label), joined_form(label))
        if spelling is not None
    ]
    spellings.sort(key=lambda pair: -len(pair[0]))
    one_each: dict[int, list[str]] = {}
    for spelling, number in spellings:
        words = r"(?:\s+|-)".join(re.escape(word) for word in spelling.split())
        plural = "(?:es)?" if re.search(r"(?:s|x|z|ch|sh)\Z", spelling, re.I) else "s?"
        one_each.setdefault(number, []).append(words + plural)
    groups = [f"(?P<l{number}>{'|'.join(forms)})" for number, forms in one_each.items()]
    return re.compile(rf"(?<!\w)(?:{'|'.join(groups)})(?!\w)", re.IGNORECASE)


def collect_mentions(corpus: Path, labels: Sequence[str], most: int) -> Mentions:
    """Read the corpus once, a sentence a line (UTF-8 text or gzip'd), and take mentions.

    Of each label the first mention in a sentence counts, and of all its different sentences the
    `most` with the smallest keys are taken, the key being the random stream named by label and
    sentence. So the choice depends neither on the order of the corpus nor on repeated lines, and a
    smaller `most` takes a part of what a larger one takes. Memory: twice `most` sentences a label.
    Raises BenchError when the corpus can't be read.
    """
    pattern = mention_pattern(labels)
    names = {f"l{number}": label for number, label in enumerate(labels)}
    kept: dict[str, dict[int, Mention]] = {label: {} for label in labels}
    sentences = dict.fromkeys(labels, 0)
    lines = too_long = undecodable = 0
    for raw in _lines(corpus):
        lines += 1
        if len(raw) == LONGEST_LINE:
            too_long += 1
            continue
        try:
            sentence = raw.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            undecodable += 1
            continue
        if len(sentence) > LONGEST_SENTENCE:
            too_long += 1
            continue
        seen: set[str] = set()
        for match in pattern.finditer(sentence):
            label = names[match.lastgroup or ""]
            if label not in seen:
                seen.add(label)
                sentences[label] += 1
                key = stream_seed("words", "mention", label, sentence)
                kept[label][key] = Mention(sentence, *match.span())
                if len(kept[label]) > 2 * most:
                    kept[label] = _first(kept[label], most)
    taken = {label: list(_first(mentions, most).values()) for label, mentions in kept.items()}
    return Mentions(taken, sentences, lines, too_long, undecodable)


def _first(mentions: dict[int, Mention], most: int) -> dict[int, Mention]:
    """The `most` mentions with the smallest keys, in their order."""
    return {key: mentions[key] for key in sorted(mentions)[:most]}


def _lines(corpus: Path) -> Iterator[bytes]:
    """The lines that are not empty; of a line beyond LONGEST_LINE, its beginning."""
    remedy = "check the path given as --corpus"
    with open_packed(corpus, "corpus", remedy) as (stream, _):
        whole = True
        while raw := stream.readline(LONGEST_LINE):
            if b"\0" in raw:
                raise BenchError(
                    f"the corpus {corpus} is not text",
                    expected="UTF-8 text, one sentence a line, or such text gzip'd",
                    found="a zero byte",
                    remedy="unpack the archive, or name another file",
                )
            if whole and not raw.isspace():
                yield raw
            whole = raw.endswith(b"\n")


BATCH = 32
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that is there is read
TOKENIZER = ("tokenizer.json", "vocab.txt", "tokenizer_config.json")
MOST_LAYERS = 100


@dataclass(frozen=True)
class AveragePlan:
    """What to average.

    Attributes
    ----------
    model: folder of a BERT model.
    corpus: text with one sentence a line, or such text gzip'd.
    labels: L different labels.
    mentions: most mentions of a label that count (N).
    min_mentions: fewest; a label with fewer is an error.
    masked: whether the label's words are replaced by [MASK].
    layer: whose output is taken, from 1; None for the last.
    """

    model: Path
    corpus: Path
    labels: tuple[str, ...]
    mentions: int = 1000
    min_mentions: int = 1
    masked: bool = True
    layer: int | None = None


def average(plan: AveragePlan, out: Path, device: torch.device) -> Mentions:
    """Write the label-level table `out` and beside it `out`.json; the mentions they rest on.

    The table has one line per label, spaces written `_`, numbers that give the float32 vector
    back exactly; means are taken in float64. Raises BenchError, and writes nothing, for a model
    or corpus that can't be read and for labels with fewer than `min_mentions` mentions.
    """
    check_labels(plan.labels)
    bert = Bert(plan.model, device)
    layer = bert.layers if plan.layer is None else plan.layer
    if layer > bert.layers:
        raise BenchError(
            f"the model {plan.model} has no layer {layer}",
            expected=f"a layer from 1 to {bert.layers}",
            found=str(layer),
            remedy="choose another with --layer, or leave it out for the last",
        )
    mentions = collect_mentions(plan.corpus, plan.labels, plan.mentions)
    few = {label: len(mentions.taken[label]) for label in plan.labels}
    few = {label: count for label, count in few.items() if count < plan.min_mentions}
    if few:
        raise BenchError(
            f"{plan.corpus} mentions {len(few)} of {len(plan.labels)} labels too seldom",
            expected=f"at least {plan.min_mentions} different sentences with each label",
            found=", ".join(f"{label} {count}" for label, count in few.items()),
            remedy="name a larger corpus, or lower --min-mentions where that is above 1",
        )
    vectors = [
        bert.vectors(mentions.taken[label], masked=plan.masked, layer=layer).mean(axis=0)
        for label in plan.labels
    ]
    made_of = _made_of(plan, bert, layer, mentions)
    write_label_table(out, plan.labels, np.stack(vectors), made_of)
    return mentions


def _made_of(plan: AveragePlan, bert: Bert, layer: int, mentions: Mentions) -> dict[str, Any]:
    return {
        "made_by": "mlfsic-bench embeddings average",
        "model": {path.name: hash_file(path) for path in bert.files},
        "model_name": resolved(plan.model).name,
        "corpus": {
            "name": plan.corpus.name,
            "sha256": hash_file(plan.corpus),
            "lines": mentions.lines,
            "lines_too_long": mentions.too_long,
            "lines_undecodable": mentions.undecodable,
        },
        "masked": plan.masked,
        "layer": layer,
        "mentions": plan.mentions,
        "min_mentions": plan.min_mentions,
        "labels": {
            label: {"sentences": mentions.sentences[label], "taken": len(mentions.taken[label])}
            for label in plan.labels
        },
        "transformers": bert.version,
    }


class Bert:
    """A frozen BERT model with its tokenizer, from a folder that `save_pretrained` wrote.

    Attributes
    ----------
    files: the files it was read from.
    layers: number of its layers.
    version: of transformers.

    Raises BenchError for a folder that is not such a model, whole and without surprises.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        import torch

        self.files = _files(folder)
        options = {"local_files_only": True, "trust_remote_code": False}
        try:
            with (
                transformers_offline("bert") as transformers,
                torch.random.fork_rng(devices=[]),  # its initialisers draw random numbers
            ):
                config = transformers.BertConfig.from_pretrained(str(folder), **options)
                _check_size(folder, self.files[1], transformers.BertModel, config)
                model, report = transformers.BertModel.from_pretrained(
                    str(folder),
                    config=config,
                    add_pooling_layer=False,
                    attn_implementation="eager",
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # reported below
                    weights_only=True,
                    **options,
                )
                tokenizer = transformers.BertTokenizerFast.from_pretrained(str(folder), **options)
                self.version = str(transformers.__version__)
            largest = max(tokenizer.get_vocab().values())
            special = (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id)
        except BenchError:
            raise
        except pickle.UnpicklingError as error:  # whose text advises to run what is in the file
            raise _refused(folder, "pickled objects, or damage; nothing of it was run") from error
        except Exception as error:  # a damaged file can fail in any of the libraries' readers
            first = (str(error).strip() or "no reason given").splitlines()[0]
            raise _refused(folder, f"{type(error).__name__}: {first}") from error
        # A tensor left at its random start would spoil every vector in silence.
        wrong = [str(key) for kind in ("missing", "mismatched") for key in report[f"{kind}_keys"]]
        if wrong:
            raise _refused(folder, f"no tensor, or one of another shape, for {sorted(wrong)[0]}")
        for name, value in model.named_parameters():
            if not value.isfinite().all():
                raise _refused(folder, f"numbers that are not finite in {name}")
        if None in special or largest >= model.config.vocab_size:
            raise _refused(folder, "a tokenizer that does not fit the model")
        self.layers: int = model.config.num_hidden_layers
        self._longest: int = model.config.max_position_embeddings
        self._device = device
        self._tokenizer = tokenizer
        self._model = model.float().to(device).eval()

    def vectors(
        self, mentions: Sequence[Mention], *, masked: bool, layer: int
    ) -> npt.NDArray[np.float64]:
        """float64 [n, d]: for each mention the mean of the label's tokens at `layer`.

        Layers count from 1 to `layers`. With `masked` the label's words are replaced by one
        [MASK] token, whose vector is taken. A sentence longer than the model takes is cut to a
        window with the label in its middle.
        """
        inputs = [self._tokens(mention, masked) for mention in mentions]
        rows = [self._batch(inputs[at : at + BATCH], layer) for at in range(0, len(inputs), BATCH)]
        return np.concatenate(rows)

    def _tokens(self, mention: Mention, masked: bool) -> tuple[list[int], int, int]:
        """Token ids with [CLS] and [SEP], and the label's first token and the one after its last.

        Positions are found by the characters that each token stands for.
        """
        tokenizer, (start, end) = self._tokenizer, (mention.start, mention.end)
        text = mention.sentence
        if masked:
            mask = str(tokenizer.mask_token)
            text = f"{text[:start]}{mask}{text[end:]}"
            end = start + len(mask)
        coded = tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        own = [i for i, (a, b) in enumerate(coded["offset_mapping"]) if a < end and b > start]
        if not own:
            raise BenchError(
                f"the tokenizer makes nothing of {mention.sentence[mention.start : mention.end]!r}",
                expected="at least one token for a label",
                found=f"none in the sentence {text[:60]!r}",
                remedy="leave this label out, or name a model whose tokenizer knows its characters",
            )
        room = self._longest - 2
        first, count = own[0], own[-1] + 1 - own[0]
        begin = max(0, min(first - (room - count) // 2, len(coded["input_ids"]) - room))
        ids = coded["input_ids"][begin : begin + room]
        first += 1 - begin
        return [tokenizer.cls_token_id, *ids, tokenizer.sep_token_id], first, first + count

    def _batch(
        self, inputs: Sequence[tuple[list[int], int, int]], layer: int
    ) -> npt.NDArray[np.float64]:
        import torch

        padded = self._tokenizer.pad(
            {"input_ids": [ids for ids, _, _ in inputs]}, return_tensors="pt"
        ).to(self._device)
        with torch.no_grad():
            states = self._model(**padded, output_hidden_states=True).hidden_states[layer]
        rows = [
            states[i, first:end].double().mean(dim=0) for i, (_, first, end) in enumerate(inputs)
        ]
        result: npt.NDArray[np.float64] = torch.stack(rows).cpu().numpy()
        return result


def _files(folder: Path) -> list[Path]:
    """The files of a BERT model; BenchError where the folder is none, or asks for too much."""
    if not is_folder(folder):
        raise _refused(folder, "no folder at that path")
    weights = [folder / name for name in WEIGHTS if is_file(folder / name)]
    tokenizer = [folder / name for name in TOKENIZER if is_file(folder / name)]
    if not weights or not any(path.name in TOKENIZER[:2] for path in tokenizer):
        raise _refused(folder, "no weights" if not weights else "no tokenizer")
    config = folder / "config.json"
    values = read_json(config, kind="model configuration", limit=1 << 20)
    kind = values.get("model_type") if isinstance(values, dict) else None
    if kind != "bert" or values.get("position_embedding_type", "absolute") != "absolute":
        raise _refused(folder, f"model_type {kind!r}, or other than absolute positions")
    layers = values.get("num_hidden_layers")
    if not isinstance(layers, int) or layers > MOST_LAYERS:
        raise _refused(folder, f"{layers!r} layers in config.json; at most {MOST_LAYERS} are read")
    files = [config, weights[0], *tokenizer]
    for path in files:  # the libraries would wait for a pipe, and can't say what an LFS pointer is
        open_regular(path).close()
    return files


def _check_size(folder: Path, weights: Path, model: Any, config: Any) -> None:
    """BenchError for a config.json that asks for more memory than the weights could fill."""
    import torch

    with torch.device("meta"):
        network = model(config, add_pooling_layer=False)
    numbers = sum(parameter.numel() for parameter in network.parameters())
    if numbers > weights.stat().st_size:
        raise _refused(folder, f"{numbers:,} weights in config.json, more than {weights.name} has")


def _refused(folder: Path, found: str) -> BenchError:
    return BenchError(
        f"{folder} is not a BERT model that can be read",
        expected="a folder of model_type 'bert' with config.json, weights (model.safetensors or "
        "pytorch_model.bin) and tokenizer, as save_pretrained writes it; nothing is downloaded",
        found=found,
        remedy="name such a folder, for example a copy of bert-base-uncased",
    )
