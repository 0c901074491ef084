import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mlfsic_bench.data import images
from mlfsic_bench.data.coco import Coco
from mlfsic_bench.data.images import decode_rgb
from mlfsic_bench.data.jpeg import Jpeg
from mlfsic_bench.errors import BenchError
from tests.fakes.faulty import photo
from tests.fakes.jpeg import jpeg


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_of_zeros(width, height):
    """A PNG that declares a size and then holds next to no pixels."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_png_modes_become_rgb(mode):
    image = decode_rgb(encoded(Image.new("RGB", (5, 4), "white").convert(mode)), "x")
    assert (image.mode, image.size) == ("RGB", (5, 4))
    assert np.asarray(image).min() == 255


def test_cmyk_jpeg_palette_transparency_and_16_bit():
    cmyk = encoded(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG")
    assert decode_rgb(cmyk, "x").getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (2, 2))
    palette.putpalette([10, 20, 30, 0, 0, 0])
    assert decode_rgb(encoded(palette, transparency=b"\x00\xff"), "x").getpixel((0, 0)) == (
        10,
        20,
        30,
    )
    deep = Image.fromarray(np.full((3, 3), 0x8000, np.uint16))
    assert decode_rgb(encoded(deep), "x").getpixel((1, 1)) == (128, 128, 128)


def test_pixels_stay_as_stored_whatever_exif_says():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_rgb(encoded(Image.new("RGB", (6, 2)), "JPEG", exif=exif), "x").size == (6, 2)


@pytest.mark.parametrize(
    "data",
    [b"", b"no image", jpeg(1)[:-60], jpeg(1)[:30], b"GIF89a" + bytes(50), png_of_zeros(4, 4)],
)
def test_corrupt_images_name_the_image(data):
    with pytest.raises(BenchError, match="the image train/7 cannot be decoded"):
        decode_rgb(data, "train/7")


@pytest.mark.parametrize("side", [9_000, 12_000, 60_000])
def test_a_bomb_is_refused_from_its_header(side):
    with pytest.raises(BenchError, match="the image bomb is too large"):
        decode_rgb(png_of_zeros(side, side), "bomb")


@pytest.mark.parametrize("options", [{}, {"quality": 95}, {"restart_marker_rows": 1}])
def test_grey_that_a_decoder_filled_in_is_an_error_and_a_grey_border_is_none(options):
    image = photo(7, (160, 120))
    data = encoded(image, "JPEG", **options)
    with pytest.raises(BenchError, match="cannot be decoded") as caught:
        decode_rgb(data[: len(data) // 5] + b"\xff\xd9", "x")
    assert "no data from row" in caught.value.found
    assert "splits audit" in caught.value.remedy
    image.paste((128, 128, 128), (0, 60, 160, 120))
    assert decode_rgb(encoded(image, "JPEG", **options), "x").getpixel((159, 119)) == (128,) * 3


@pytest.mark.parametrize("at", range(2, 700, 23))
def test_the_parts_of_a_cut_jpeg_are_found_or_not_without_an_exception(at):
    data = jpeg(3)
    assert Jpeg.parse(data).ended
    assert not Jpeg.parse(data[:at]).ended


def test_files_that_were_all_sound_are_not_opened_again_while_they_stay_as_they_are(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFSIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(images, "MANY", 2)
    (tmp_path / "annotations").mkdir()
    folder = tmp_path / "train2014"
    folder.mkdir()
    names = [f"COCO_train2014_{i:012d}" for i in range(3)]
    for name in names:
        (folder / f"{name}.jpg").write_bytes(encoded(Image.new("RGB", (4, 4)), "JPEG"))
    ids = tuple(f"train2014/{name}" for name in names)

    def looked_at():
        looked = []
        with monkeypatch.context() as patch:
            whole = images.what_is_wrong
            patch.setattr(images, "what_is_wrong", lambda p: looked.append(p) or whole(p))
            there = Coco(tmp_path).available(ids)
        return len(looked), there.tolist()

    assert looked_at() == (3, [True] * 3)
    assert looked_at() == (0, [True] * 3)
    (folder / f"{names[1]}.jpg").write_bytes(b"cut")
    assert looked_at() == (3, [True, False, True])
    assert looked_at() == (3, [True, False, True])  # what is wrong may be put right without a trace
