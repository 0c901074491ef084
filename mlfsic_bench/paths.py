"""Looking at paths: what lies there, what a folder holds; each way to fail is one BenchError.

`Path.exists` and its kin raise on a folder without permission, on a name that is too long and on a
name with a NUL character, and leave the caller to find out which. Everything that gets a path from
a user or from a file looks at it through this module.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
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


def look(path: Path) -> Kind:
    """What lies at a path, links followed; a link that leads nowhere counts as nothing.

    Raises BenchError where the system can't say: no permission, a name too long, links in a circle,
    a name that no file can have.
    """
    return _asked(path, lambda: kind_of(path))


def kind_of(path: Path) -> Kind:
    """As `look`, but OSError where the system can't say; for callers with an error of their own."""
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
    paths = _asked(folder, lambda: list(Path(folder).iterdir()))
    return sorted(path for path in paths if not path.name.startswith("."))


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
