"""Episodes, sets of them, and the protocols that draw them: one object for each protocol.

Whoever needs to know how episodes were drawn asks the `Protocol` of the set: K, Q, how many there
are by default, how it draws, how its file looks. Nobody asks which protocol it is. A new one is a
class in a file of its own and a line in `PROTOCOLS`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.hashing import canonical_json, hash_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mlfsic_bench.splits.split import Split

# name -> module and class, imported when the protocol is asked for
PROTOCOLS = {
    "one_per_label": ("mlfsic_bench.episodes.per_label", "OnePerLabel"),
    "k_per_label": ("mlfsic_bench.episodes.per_label", "KPerLabel"),
    "disjoint_per_label": ("mlfsic_bench.episodes.per_label", "DisjointPerLabel"),
    "laso_k_shot": ("mlfsic_bench.episodes.k_shot", "LasoKShot"),
    "laso_k_shot_balanced": ("mlfsic_bench.episodes.k_shot", "LasoBalanced"),
}
DEFAULT = "one_per_label"
FAMILY = "k_per_label"
"""What K or Q alone, without a protocol, choose from; with K = 1 and Q = 4 it is the default."""
# what a user may choose about protocols: the letter for it, and the help of its option
OPTIONS = {
    "shots": ("K", "Support images of each label.  [default: 1, but for LaSO's protocols]"),
    "queries": ("Q", "Query images of each label.  [default: 4]"),
}


@dataclass(frozen=True)
class Episode:
    """One episode; targets come from the split.

    Attributes
    ----------
    support: image ids. Where they were drawn for labels with K each, entries K*i to K*i + K - 1
        were drawn for label i of the part.
    query: image ids, disjoint from the support; with Q for each label, in the same order.
    """

    support: tuple[str, ...]
    query: tuple[str, ...]


@dataclass(frozen=True)
class EpisodeSet:
    """A set of episodes; its file, and the hash that names it.

    Attributes
    ----------
    split_id, split_hash: the split they were drawn from, or checked against when they were given;
        the id without `-unofficial`.
    protocol: how they were drawn.
    part: `val` or `novel`.
    episodes: the episodes; episode i is the same alone or among any number. A query that all share
        is not in the file; a set that was read from one has it when it is `on` its split.
    drawn: whether the protocol drew them; else somebody gave them.
    """

    split_id: str
    split_hash: str
    protocol: Protocol
    part: str
    episodes: tuple[Episode, ...]
    drawn: bool = True

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, index: int) -> Episode:
        return self.episodes[index]

    def __repr__(self) -> str:
        drawn = f"{self.protocol.title}, hash {self.hash[:12]}"
        return f"<{len(self)} {self.part} episodes of {self.split_id}: {drawn}>"

    @cached_property
    def hash(self) -> str:
        """SHA-256 over all of the above, as the protocol says."""
        query = self.episodes[0].query if self.protocol.one_query else ()
        return hash_json(self.protocol.identity(self.body(), query))

    def body(self) -> dict[str, Any]:
        """All keys of the file but the hash, in the order of the file."""
        return {
            "schema": self.protocol.schema,
            "split_id": self.split_id,
            "split_hash": self.split_hash,
            "protocol": self.protocol.id,
            "part": self.part,
            **self.protocol.stated(self.drawn),
            "count": len(self.episodes),
            self.protocol.listed: [self.protocol.entry(episode) for episode in self.episodes],
        }

    def format(self) -> bytes:
        """The bytes of the file: keys in a fixed order, one episode a line, UTF-8."""
        body = self.body()
        fields = []
        for key, value in {**body, "hash": hash_json(body)}.items():
            text = json.dumps(value, ensure_ascii=False)
            if key == self.protocol.listed:
                text = "[\n" + ",\n".join(canonical_json(one).decode() for one in value) + "\n]"
            fields.append(f'"{key}":{text}')
        return ("{\n" + ",\n".join(fields) + "\n}\n").encode()

    def on(self, split: Split, name: str) -> EpisodeSet:
        """The same episodes, checked on a split; `name` names their file in errors.

        Where all episodes share one query, the annotations of the split may differ from those they
        were drawn from, as long as they still fit.
        """
        found, expected = f"split {self.split_id}", f"split {split.plain_id}"
        if self.split_id == split.plain_id and not self.protocol.one_query:
            found += f" with hash {self.split_hash}"
            expected += f" with hash {split.hash}"
        if found != expected:
            raise BenchError(
                f"{name} holds episodes of another split",
                expected=expected,
                found=found,
                remedy="name the split the episodes were drawn from, or sample new ones",
            )
        self.protocol.check(split, self.part, self.episodes, name)
        return episode_set(self.protocol, split, self.part, self.episodes, self.drawn)


def episode_set(
    protocol: Protocol, split: Split, part: str, episodes: Sequence[Episode], drawn: bool = True
) -> EpisodeSet:
    """The set of these episodes of a split, each with the query that all share, if they do."""
    if protocol.one_query:
        query = protocol.query(split, part)
        episodes = [Episode(episode.support, query) for episode in episodes]
    return EpisodeSet(split.plain_id, split.hash, protocol, part, tuple(episodes), drawn)


class Protocol(ABC):
    """How episodes are drawn from a part of a split, and how their file looks.

    A subclass is a frozen dataclass, so equal protocols compare equal; its fields are those of
    `takes`.

    Attributes
    ----------
    name, version: together the `id`, which stands in files, records and seeds.
    takes: what a user chooses about it, of `OPTIONS`.
    defaults: what is taken for a choice of `takes` that is not made.
    counts: part -> how many episodes by default, for the parts that can be drawn from; None: as
        many as the part gives.
    disjoint: whether no image is in two episodes of a set.
    one_query: whether all episodes share one query, which follows from the split. Their supports
        may then differ in size, and a file holds supports alone.
    shots: K, the support images of each label.
    queries: Q, the query images drawn for each label; None: queries are not drawn for labels.
    schema, listed: the file's schema, and its key with the episodes.
    bibtex: the BibTeX entry of the work that set it up; may be empty.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    takes: ClassVar[tuple[str, ...]] = ()
    defaults: ClassVar[Mapping[str, int]] = {}
    counts: ClassVar[Mapping[str, int | None]]
    disjoint: ClassVar[bool] = False
    one_query: ClassVar[bool] = False
    shots: int
    queries: int | None
    schema: ClassVar[str] = "mlfsic-bench/episodes-v1"
    listed: ClassVar[str] = "episodes"
    bibtex: ClassVar[str] = ""

    @property
    def id(self) -> str:
        """The versioned name, such as `one_per_label-v1`."""
        return f"{self.name}-v{self.version}"

    @property
    def choices(self) -> dict[str, int]:
        """What was chosen, by the names in `takes`: `{"shots": 5}`."""
        return {name: getattr(self, name) for name in self.takes}

    @property
    def title(self) -> str:
        """Id and choices for a caption: `laso_k_shot-v1, K = 5`."""
        return ", ".join([self.id, *(f"{OPTIONS[k][0]} = {v}" for k, v in self.choices.items())])

    @property
    def tag(self) -> str:
        """The choices in the name of a folder or file: `5-shot`, or nothing."""
        singular = {"shots": "shot", "queries": "query"}
        return "-".join(f"{value}-{singular[key]}" for key, value in self.choices.items())

    @classmethod
    def of(cls, **chosen: int) -> Protocol:
        """The protocol with these choices, by the one name that it has."""
        return cls(**chosen)

    def default_count(self, split: Split, part: str) -> int:
        """How many episodes a set of this part has unless somebody says how many."""
        count = self.counts[part]
        assert count is not None
        return count

    @abstractmethod
    def draw(self, split: Split, part: str, indices: Sequence[int]) -> list[Episode]:
        """The episodes with these numbers. BenchError when the part can't give them."""

    @abstractmethod
    def check(self, split: Split, part: str, episodes: Sequence[Episode], name: str) -> None:
        """BenchError unless these episodes, of the file called `name`, can be of this part."""

    @abstractmethod
    def file_name(self, split_id: str, part: str) -> str:
        """The name of the file with a split's own episodes."""

    def drawn_for(self, labels: int, queries: int) -> npt.NDArray[np.int64] | None:
        """int64 [queries]: the label each query image of an episode was drawn for; None for none.

        None also where so many queries can't be those of so many labels.
        """
        import numpy as np

        if self.queries is None or queries != labels * self.queries:
            return None
        return np.repeat(np.arange(labels), self.queries)

    def query(self, split: Split, part: str) -> tuple[str, ...]:
        """The query that all episodes share (`one_query`); empty where each has its own."""
        return ()

    # How the file looks ---------------------------------------------------------------------------

    @classmethod
    def chosen_in(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        """The choices that the content of a file states, unchecked."""
        keys = {"shots": "support_per_label", "queries": "query_per_label"}
        return {name: raw.get(keys[name]) for name in cls.takes}

    def stated(self, drawn: bool) -> dict[str, Any]:
        """The keys of a file that say how its episodes came to be.

        `drawn`: by the protocol from the split with this hash; else somebody gave them, which only
        files of protocols with `one_query` can say.
        """
        return {"support_per_label": self.shots, "query_per_label": self.queries}

    def identity(self, body: dict[str, Any], query: Sequence[str]) -> dict[str, Any]:
        """What the hash of a set is over; `body`: the keys of its file, `query`: the shared one."""
        return body

    def entry(self, episode: Episode) -> Any:
        """What a file holds of an episode."""
        return {"support": list(episode.support), "query": list(episode.query)}

    def lists_in(self, entry: Any) -> tuple[Any, Any] | None:
        """(support, query) of an entry, unchecked; None where it has other keys."""
        if not isinstance(entry, dict) or sorted(entry) != ["query", "support"]:
            return None
        return entry["support"], entry["query"]


def find_protocol(name: str | None = None, **chosen: int | None) -> Protocol:
    """The protocol of that name with what was chosen (`shots`, ...); None: not chosen.

    Without a name, K and Q alone say how many images each label has: nothing chosen, and K = 1
    with Q = 4, are `one_per_label`; any others are `k_per_label`. K is 1 and Q is 4 unless chosen.

    BenchError for an unknown name, and for a choice that it needs or does not take.
    """
    given = {key: value for key, value in chosen.items() if value is not None}
    if name is None:
        name, given = (FAMILY, {"shots": 1, **given}) if given else (DEFAULT, {})
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    kind = _kind(name)
    given = {**kind.defaults, **given}
    for key in dict.fromkeys((*given, *kind.takes)):
        letter = OPTIONS[key][0]
        if (key in given) != (key in kind.takes):
            others = " or ".join(other for other in PROTOCOLS if key in _kind(other).takes)
            raise BenchError(
                f"--protocol {name} and --{key} do not fit together",
                expected=f"--protocol {others} with --{key} {letter}, or neither",
                found=f"--{key} {given[key]}" if key in given else f"no --{key}",
                remedy=f"leave out --{key}, or --protocol"
                if key in given
                else f"add --{key} {letter}, any {letter} from 1 on",
            )
        if type(given[key]) is not int or given[key] < 1:
            raise BenchError(
                f"{name} is not defined for that {letter}",
                expected=f"a whole number of at least 1 for {key!r}",
                found=repr(given[key])[:80],
                remedy=f"choose another {letter}",
            )
    return kind.of(**given)


def protocol_with_id(versioned: str, **chosen: int | None) -> Protocol:
    """The protocol with an id such as `laso_k_shot-v1` and the choices in a file."""
    kind = kind_with_id(versioned)
    if kind is None:
        raise unknown_name("protocol", versioned, known_ids())
    given = {key: value for key, value in chosen.items() if value is not None}
    if set(given) != set(kind.takes):
        raise BenchError(
            f"what was chosen does not fit with the protocol {versioned}",
            expected=f"the keys: {', '.join(kind.takes) or '(none)'}",
            found=f"{', '.join(given) or '(none)'}",
            remedy="correct the description of the episodes",
        )
    found = find_protocol(kind.name, **given)
    if found.id != versioned:
        raise BenchError(
            f"episodes with these choices are not called {versioned}",
            expected=f"{found.id}, without choices",
            found=f"{versioned} with {given}",
            remedy="correct the description of the episodes",
        )
    return found


def kind_with_id(versioned: object) -> type[Protocol] | None:
    """The class of protocols with that id; None for one that is not known here."""
    kinds = [_kind(name) for name in PROTOCOLS]
    return next((kind for kind in kinds if versioned == f"{kind.name}-v{kind.version}"), None)


def known_ids() -> list[str]:
    """The ids of all protocols."""
    return [f"{name}-v{_kind(name).version}" for name in PROTOCOLS]


def _kind(name: str) -> type[Protocol]:
    module, attribute = PROTOCOLS[name]
    kind: type[Protocol] = getattr(import_module(module), attribute)
    return kind
