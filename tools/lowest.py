"""Print the lowest version of every dependency in pyproject.toml, as constraints for pip.

    python -m tools.lowest > lowest.txt && pip install -c lowest.txt -e '.[test]'

`make test-lowest` runs the tests with them. A dependency without a bound has no line.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def lowest(text: str) -> list[str]:
    """`name==version` for each `"name>=version"` that stands in a pyproject.toml."""
    found = re.findall(r'"([A-Za-z][\w.-]*)>=([\d.]+)"', text)
    return [f"{name}=={version}" for name, version in found]


def main() -> int:
    """Print the constraints; the exit code."""
    print("\n".join(lowest((ROOT / "pyproject.toml").read_text("utf-8"))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
