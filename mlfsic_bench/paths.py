"""Looking at paths: what lies there, what a folder holds; each way to fail is one BenchError.

`Path.exists` and its kin raise on a folder without permission, on a name that is too long and on a
name with a NUL character, and leave the caller to find out which. Everything that gets a path from
a user or from a file looks at it through this module.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

from mlfsic_bench.errors import BenchError

Kind = Literal["nothing", "file", "folder", "pipe, device or socket"]
_REMEDIES = {
    errno.EACCES: "allow reading (chmod), or name another path",
    errno.EPERM: "allow reading (chmod), or name another path",
    errno.ENAMETOOLONG: "check the path; a part of it is longer than the file system allows",
    errno.ELOOP: "remove the link that leads back to itself, or name another path",
}
T = TypeVar("T")
Places = dict[str, bool]  # absolute path -> whether what lies in the folder there matters, too
_watching: list[Places] = []


@contextmanager
def watched(places: Places) -> Iterator[None]:
    """In the block, note in `places` every path that is looked at, whether something is there.

    That is what the work of the block depends on, as far as it goes through this module. Blocks may
    be nested, with the same `places` too.
    """
    _watching.append(places)
    try:
        yield
    finally:
        _watching.pop()


def note(path: Path | str, listed: bool = False) -> None:
    """Say that this path is looked at, to whoever is watching; `listed`: with all in the folder."""
    if _watching:
        name = os.path.abspath(path)  # noqa: PTH100 - links stay, and a Path takes longer
        for places in _watching:
            places[name] = places.get(name, False) or listed


def look(path: Path) -> Kind:
    """What lies at a path, links followed; a link that leads nowhere counts as nothing.

    Raises BenchError where the system can't say: no permission, a name too long, links in a circle,
    a name that no file can have.
    """
    return _asked(path, lambda: kind_of(path))


def kind_of(path: Path) -> Kind:
    """As `look`, but OSError where the system can't say; for callers with an error of their own."""
    note(path)
    try:
        mode = Path(path).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "nothing"
    except ValueError as error:
        raise OSError(errno.EINVAL, _impossible(error), str(path)) from error
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "pipe, device or socket"


def exists(path: Path) -> bool:
    """Whether anything lies there; BenchError as `look`."""
    return look(path) != "nothing"


def is_file(path: Path) -> bool:
    """Whether a regular file lies there; BenchError as `look`."""
    return look(path) == "file"


def is_folder(path: Path) -> bool:
    """Whether a folder lies there; BenchError as `look`."""
    return look(path) == "folder"


def list_folder(folder: Path) -> list[Path]:
    """What lies in a folder, sorted; files whose names begin with a dot are left out.

    Those are the system's (`.DS_Store`), a lock, or what a killed writer left behind. BenchError
    when the folder can't be listed.
    """
    return [Path(folder) / name for name in sorted(names_in(folder))]


def names_in(folder: Path) -> list[str]:
    """The names of what `list_folder` finds, in no order: a Path of each takes far longer."""
    note(folder, listed=True)
    names = _asked(folder, lambda: os.listdir(folder))  # noqa: PTH208
    return [name for name in names if not name.startswith(".")]


def files_below(folder: Path) -> list[Path]:
    """All that is no folder, in a folder and the folders in it, sorted; without dot files.

    Links to folders are not followed. BenchError when one of the folders can't be listed.
    """
    found: list[Path] = []
    for path in list_folder(folder):
        if not is_link(path) and is_folder(path):
            found += files_below(path)
        else:
            found.append(path)
    return found


def folders_with(folder: Path, name: str) -> list[Path]:
    """The folders in `folder` that hold something called `name`, sorted.

    None where it is no folder. Folders that can't be looked into are left out. BenchError when
    `folder` can't be listed.
    """
    if not is_folder(folder):
        return []
    found = []
    for path in list_folder(folder):
        try:
            if exists(path / name):
                found.append(path)
        except BenchError:
            continue
    return found


def is_link(path: Path) -> bool:
    """Whether a link lies there, wherever it leads."""
    return _asked(path, lambda: path.is_symlink())


def resolved(path: Path) -> Path:
    """The absolute path with all links followed; BenchError for links in a circle."""
    return _asked(path, lambda: path.resolve())


def same_place(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same place; BenchError as `resolved`."""
    return resolved(one) == resolved(other)


def size_of(path: Path) -> int:
    """Bytes of what lies there, a link by itself; BenchError when that can't be asked."""
    return _asked(path, lambda: path.lstat().st_size)


def state_of_place(path: str, listed: bool = False) -> tuple[str | list[int] | None, int]:
    """What lies at an absolute path, in a form that changes when it does, and that JSON can hold.

    None where nothing does; of a file its `state_of`; of a folder that it is one, or, where what is
    in it counts (`listed`), a hash of the names and states in it. The second value is when it last
    changed, in ns; 0 where that does not count. OSError where the system can't say.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path takes twice as long
    except (FileNotFoundError, NotADirectoryError):
        return None, 0
    newest = max(found.st_mtime_ns, found.st_ctime_ns)
    if not stat.S_ISDIR(found.st_mode):
        return state_of(found), newest
    if not listed:
        return "folder", 0
    lines = []
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir():
                lines.append(f"{entry.name}/")
                continue
            about = entry.stat(follow_symlinks=entry.is_file())  # a link may lead nowhere
            newest = max(newest, about.st_mtime_ns, about.st_ctime_ns)
            lines.append(f"{entry.name}/{state_of(about)}")
    names = "\n".join(sorted(lines)).encode("utf-8", "surrogateescape")
    return hashlib.sha256(names).hexdigest(), newest


def state_of(about: os.stat_result) -> list[int]:
    """The one way to see that a file changed: size, times in ns, inode.

    The time of the last write can be set back, as tools do that copy. The time of the last change
    of anything about the file (ctime) can't be.
    """
    return [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino]


def states_below(folder: str, endings: tuple[str, ...]) -> list[list[str | int]]:
    """[path, *state_of] of each file below a folder whose name ends so."""
    found: list[list[str | int]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                found += states_below(entry.path, endings)
            elif entry.name.endswith(endings):
                found.append([entry.path, *state_of(entry.stat())])
    return sorted(found)


def home() -> Path | None:
    """The user's home folder; None where nothing says where it is."""
    if os.environ.get("HOME") == "":  # what `~` means then is the root of the file system
        return None
    try:
        return Path.home()
    except (RuntimeError, KeyError):
        return None


def default_cache() -> Path:
    """Where features and all else that may be made again are kept, unless a place is named.

    MLFSIC_CACHE, else ~/.cache/mlfsic-bench. BenchError where there is neither.
    """
    named, user = os.environ.get("MLFSIC_CACHE"), home()
    if named:
        return Path(named)
    if user is None:
        raise BenchError(
            "there is no folder for features: nothing says where this user's home is",
            expected="the environment variable MLFSIC_CACHE or HOME, or --cache DIR",
            found="none of them",
            remedy="set MLFSIC_CACHE to a folder with room for features",
        )
    return user / ".cache" / "mlfsic-bench"


def reason(error: Exception) -> str:
    """Why a path can't be used, in words, without the path."""
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return _impossible(error)


def cannot_use(path: Path | str, error: Exception) -> BenchError:
    """The error for a path that the system refuses."""
    number = error.errno if isinstance(error, OSError) else None
    return BenchError(
        f"cannot use the path {path}",
        expected="a path that this user can read",
        found=reason(error),
        remedy=_REMEDIES.get(number or 0, "check the path"),
    )


def _asked(path: Path, question: Callable[[], T]) -> T:
    try:
        return question()
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise cannot_use(path, error) from error


def _impossible(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "a name with characters that can't be written as a file's name"
    if isinstance(error, RuntimeError):
        return "a link that leads back to itself"
    return "a name with a NUL character" if "null" in str(error) else str(error)
