"""The picture of scenes in the docs: python -m tools.scenes_picture --out FILE."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import click
from PIL import Image

from mlfsic_bench.data.dataset import PART_NAMES
from mlfsic_bench.data.scenes import FIRST, SIZE, Scenes
from mlfsic_bench.files import write_bytes

GAP = 6  # pixels


def sheet(columns: int) -> bytes:
    """The first `columns` images of base, val and novel, a row each, as the bytes of a PNG."""
    scenes, pitch = Scenes(), SIZE + GAP
    picture = Image.new("RGB", (columns * pitch - GAP, len(PART_NAMES) * pitch - GAP), "white")
    for row, part in enumerate(PART_NAMES):
        for column in range(columns):
            image = scenes.open_image(f"scenes/{FIRST[part] + column:06d}")
            picture.paste(image, (column * pitch, row * pitch))
    stream = BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The PNG file.")
@click.option("--columns", default=8, show_default=True, type=click.IntRange(1, 100))
def main(out: Path, columns: int) -> None:
    """Draw the first images of base, val and novel, a row each."""
    write_bytes(out, sheet(columns))


if __name__ == "__main__":
    main()
