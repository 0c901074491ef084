"""The prose against the program: links resolve, commands exist, nothing is left unfinished."""

import re
import shlex
from pathlib import Path

import click
import pytest

from mlfsic_bench.cli.main import cli
from mlfsic_bench.cli.reproduce import reproduce
from mlfsic_bench.cli.run import run
from mlfsic_bench.cli.sweep import RunByDefault
from mlfsic_bench.experiments.schema import experiment_names
from mlfsic_bench.methods.registry import METHODS, method_names

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FOLDERS = ("mlfsic_bench", "baselines", "tests", "benchmarks", "docs", ".ci")
TEXTS = [
    path
    for top in (ROOT / folder for folder in FOLDERS)
    for path in sorted(top.rglob("*"))
    if path.suffix in {".py", ".md", ".j2", ""} and path.is_file()
]
TEXTS += [*ROOT.glob("*.md"), ROOT / "Makefile", ROOT / "pyproject.toml"]
UNFINISHED = re.compile(
    r"\bTO[D]O\b|\bFIX[M]E\b|\bX{3}\b|\bcoming[ ]soon\b|\blorem[ ]ipsum\b", re.I
)
SOMEBODYS_MACHINE = re.compile(r"(?<![\w.])/(?:home|root|Users|work|mnt)/\w")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def anchors(text: str) -> set[str]:
    """The anchors that headings get, as GitHub makes them."""
    fenced = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    titles = re.findall(r"^#+ (.*)$", fenced, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def bash_lines(text: str) -> list[str]:
    """The command lines of the ```bash blocks, continued lines joined."""
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", text, re.M | re.S)
    return [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def programs(page: Path) -> list[list[str]]:
    """The words of each command of a page, without variables set before it."""
    found = []
    for line in bash_lines(page.read_text(encoding="utf-8")):
        for part in re.split(r"&&|;|\|", line):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"\w+=.*|export", words[0]):
                words = words[1:]
            if words[:3] == ["python", "-m", "mlfsic_bench"]:
                words = ["mlfsic-bench", *words[3:]]
            if words:
                found.append(words)
    return found


def check_words(words: list[str]) -> None:
    """Raise a click error when `mlfsic-bench` would refuse these words for their form."""
    command: click.Command = cli
    ctx = click.Context(cli, info_name="mlfsic-bench", **cli.context_settings)
    rest = words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        if isinstance(command, RunByDefault):
            rest = command.with_run(rest)
        child = command.get_command(ctx, rest[0])
        if child is None:
            raise click.UsageError(f"no command {rest[0]!r} under {command.name!r}")
        command, ctx, rest = child, click.Context(child, info_name=rest[0], parent=ctx), rest[1:]
    options, extra, _ = command.make_parser(ctx).parse_args(args=rest)
    if extra:
        raise click.UsageError(f"unexpected {extra}", ctx)
    if "help" in options or "version" in options:
        return
    for param in command.params:
        if param.required and not param.envvar and options.get(param.name) in (None, ()):
            raise click.MissingParameter(ctx=ctx, param=param)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_resolve(page):
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", without_code(page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{relative(page)} links to {target}"
        if anchor:
            assert anchor in anchors(file.read_text("utf-8")), f"{relative(page)}: no {target}"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_commands_exist(page):
    for words in programs(page):
        if words[0] == "mlfsic-bench":
            try:
                check_words(words)
            except click.UsageError as error:
                pytest.fail(f"{relative(page)}: {' '.join(words)}\n{error.format_message()}")
        if words[0] == "make":
            targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
            assert {word for word in words[1:] if "=" not in word} <= targets


def test_there_are_commands_to_check():
    verbs = {words[1] for page in PAGES for words in programs(page) if words[0] == "mlfsic-bench"}
    assert {"splits", "episodes", "features", "methods", "run", "table"} <= verbs


@pytest.mark.parametrize(
    "line",
    [
        "mlfsic-bench no-such-verb",
        "mlfsic-bench splits no-such-command",
        "mlfsic-bench run random --no-such-option 1",
    ],
)
def test_the_check_notices_what_does_not_exist(line):
    with pytest.raises(click.UsageError):
        check_words(line.split())


def test_what_is_listed_in_full_is_complete():
    readme = (ROOT / "README.md").read_text("utf-8")
    (methods,) = re.findall(r"^\| methods \|.*", readme, re.M)
    own = [name for name in method_names() if METHODS.own_place(name)]
    assert [name for name in own if f"`{name}`" not in methods] == []
    running = (ROOT / "docs" / "running.md").read_text("utf-8")
    options = [param.opts[0] for param in run.params if isinstance(param, click.Option)]
    assert [name for name in options if f"`{name}" not in running] == []
    assert [name for name in experiment_names() if name not in reproduce.help.split("YAML")[0]] == [
        f"table{n}"
        for n in range(2, 6)  # "table1 to table6"
    ]


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    linked = {target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", index)}
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert pages - {"README.md"} <= linked


@pytest.mark.parametrize("pattern", [UNFINISHED, SOMEBODYS_MACHINE], ids=["unfinished", "path"])
def test_nothing_unfinished_and_no_path_of_somebodys_machine(pattern):
    found = {relative(text): pattern.findall(text.read_text("utf-8")) for text in TEXTS}
    assert {name: hits for name, hits in found.items() if hits} == {}
