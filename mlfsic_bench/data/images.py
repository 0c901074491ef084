"""Decoding image files from strangers: fully, into RGB, with a cap on their size."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import open_regular

MAX_PIXELS = 64 * 1024 * 1024
MAX_BYTES = 256 << 20
FORMATS = ("JPEG", "PNG")


def decode_rgb(data: bytes, name: str) -> Image.Image:
    """The image in `data` (a JPEG or PNG file) as RGB, every pixel decoded; `name` is for errors.

    Grey, palette, CMYK and 16-bit images are converted; an alpha channel is dropped. An EXIF
    orientation is not applied: pixels stay as stored, which is how the annotations of COCO and
    VOC see them. Raises BenchError when the bytes are truncated, corrupt, no image, or declare more
    than MAX_PIXELS pixels (told from the header, before anything is decoded).
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            pixels = image.width * image.height
            if pixels <= MAX_PIXELS:
                image.load()
                return _to_rgb(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        pixels = -1
    except UnidentifiedImageError as error:  # its text is the address of a stream
        raise BenchError(
            f"the image {name} cannot be decoded",
            expected="a whole JPEG or PNG file",
            found=f"{len(data)} bytes that are not a JPEG or PNG",
            remedy="fetch the file again",
        ) from error
    except Exception as error:  # Pillow's plugins raise whatever their parsing runs into
        raise BenchError(
            f"the image {name} cannot be decoded",
            expected="a whole JPEG or PNG file",
            found=f"{len(data)} bytes; {type(error).__name__}: {error}",
            remedy="fetch the file again",
        ) from error
    raise BenchError(
        f"the image {name} is too large to decode",
        expected=f"at most {MAX_PIXELS} pixels",
        found=f"{pixels} pixels" if pixels > 0 else "more than Pillow's own limit",
        remedy="remove the file, or fetch it again",
    )


def read_image_file(path: Path, name: str, remedy: str) -> bytes:
    """The bytes of an image file; BenchError naming the image when missing or over MAX_BYTES."""
    try:
        with open_regular(path) as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) <= MAX_BYTES:
            return data
        found = "a larger file"
    except OSError as error:
        found = f"{error.strerror} at {path}"
    raise BenchError(
        f"the image {name} cannot be read",
        expected=f"a file of at most {MAX_BYTES} bytes at {path}",
        found=found,
        remedy=remedy,
    )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image.copy()
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion clips at 255
        grey = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")
