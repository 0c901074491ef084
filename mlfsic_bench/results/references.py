"""What a result is cited with: BibTeX of methods, data sets, protocols and this software.

A method brings its own entries, which its record keeps, a protocol and a registered dataset theirs;
that of the software is here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mlfsic_bench.data.registry import registered
from mlfsic_bench.results.result import Result
from mlfsic_bench.text import for_terminal, is_bibtex
from mlfsic_bench.version import __version__

SOFTWARE = f"""\
@software{{mlfsicbench,
  title = {{mlfsic-bench: the benchmark of multi-label few-shot image classification}},
  author = {{{{The mlfsic-bench authors}}}},
  version = {{{__version__}}}, year = {{2026}}
}}"""
_KEY = re.compile(r"@[A-Za-z]+\{([A-Za-z0-9:_.+/-]+),")


def keys_of(bibtex: str) -> list[str]:
    """The keys of BibTeX entries, in their order; for `\\cite`."""
    return _KEY.findall(bibtex)


def bibtex_of(result: Result) -> str:
    """The entries of a result's method: those of its record, else of the method known here.

    A method that has none but names its work is cited with a note.
    """
    method = result.method
    # A record may hold any text: what LaTeX would run is not taken over.
    found = method.bibtex if is_bibtex(method.bibtex) else _of_known(method.name, "bibtex")
    if found or not method.citation or "no paper" in method.citation:
        return found
    key = re.sub(r"[^A-Za-z0-9]+", "-", method.name).strip("-").lower() or "method"
    note = re.sub(r"[{}\\%]", "", for_terminal(method.citation))
    return f"@misc{{{key},\n  note = {{{note}}}\n}}"


def printed_name(result: Result) -> str:
    """The method's name as papers print it; its plain name where nothing says more."""
    method = result.method
    return method.printed or _of_known(method.name, "printed") or method.name


def citations(results: Sequence[Result]) -> str:
    """BibTeX of the methods, data sets, protocols and the software behind these results."""
    texts = [bibtex_of(result) for result in results]
    datasets = [registered(result.meta.split.dataset) for result in results]
    texts += [dataset.bibtex for dataset in datasets if dataset and is_bibtex(dataset.bibtex)]
    for result in results:
        texts.append(result.meta.episodes.drawn_by.bibtex)
    return "\n\n".join(_distinct([*texts, SOFTWARE])) + "\n"


def _distinct(texts: Iterable[str]) -> list[str]:
    """Each entry once, by its key."""
    found: dict[str, str] = {}
    for text in texts:
        starts = [match.start() for match in _KEY.finditer(text)]
        for start, end in zip(starts, [*starts, len(text)][1:], strict=True):
            entry = text[start:end].strip()
            found.setdefault(keys_of(entry)[0], entry)
    return list(found.values())


def _of_known(name: str, attribute: str) -> str:
    """What a method that is registered here says of itself; empty for one that is not."""
    from mlfsic_bench.methods.registry import describe_method, method_names
    from mlfsic_bench.plugins.files import names_a_file

    if name not in method_names() or names_a_file(name):
        return ""
    return str(getattr(describe_method(name), attribute))
