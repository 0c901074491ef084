"""JPEG files whose data end too early, or are damaged in the middle: what decoders keep silent.

Where data are lacking, libjpeg fills the rest of an image with grey; where they are damaged, it
goes on with what it can read. Either way it only warns, and Pillow drops the warning. Grey at the
end of an image proves nothing: photographs have grey borders. So a file is decoded again with a
small change, and the pixels say which bytes the decoder has used:

- A decoder skips what stands between the last block of a scan and the next marker. Bytes added
  there change no pixel of a whole file. Where they do, the decoder had asked for more.
- The last bytes of a scan hold its last blocks; other bytes there change pixels. Where they don't,
  nobody read them: damage before has joined or lost blocks.

Damage that leaves the number of blocks as it was can't be found without the original file.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

START, END = b"\xff\xd8\xff", b"\xff\xd9"
MAX_SCANS = 1000  # progressive files have about ten
TAIL = 64  # bytes; some writers leave a few behind the end
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # what ends the data of a scan
_RESTART = re.compile(rb"(?=\xff[\xd0-\xd7])")
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ADDED = bytes(range(0x21, 0xF1, 7)) * 3  # neither 0x00, a grey block, nor 0xFF, a marker
_CHANGED = 8  # bytes at the end of a scan; fewer may hold only details that rounding removes
_FLIPS = (0x55, 0x7F)


@dataclass(frozen=True)
class Jpeg:
    """Where the parts of a JPEG file lie.

    Attributes
    ----------
    data: the file.
    scans: first byte and end of the data of each scan.
    ended: whether the end marker follows the last scan, or is among the last `TAIL` bytes.
    sequential: whether each scan has whole blocks, as in all but progressive files.
    """

    data: bytes
    scans: tuple[tuple[int, int], ...]
    ended: bool
    sequential: bool

    @staticmethod
    def parse(data: bytes) -> Jpeg:
        """The parts of a file that begins as a JPEG; stops where its markers make no sense."""
        scans: list[tuple[int, int]] = []
        frame, at = 0, 2
        ended = False
        while data[at : at + 1] == b"\xff" and len(scans) < MAX_SCANS:
            while data[at + 1 : at + 2] == b"\xff":
                at += 1
            marker = data[at + 1] if at + 1 < len(data) else 0
            if marker < 0xC0 or 0xD0 <= marker <= 0xD9:
                ended = marker == 0xD9
                break
            if marker in _FRAMES:
                frame = marker
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
            if marker == 0xDA:
                found = _MARKER.search(data, at)
                scans.append((at, found.start() if found else max(at, len(data))))
                at = scans[-1][1]
        ended = ended or END in data[-TAIL:]
        return Jpeg(data, tuple(scans), ended, frame in (0xC0, 0xC1))

    def first_missing_row(self, image: Image.Image) -> int | None:
        """The first row of pixels that its data do not reach; None for a whole file.

        `image` is what the file was decoded to, in its own mode.
        """
        pieces, at = [], 0
        blocks = (image.width // 8 + 1) * (image.height // 8 + 1)
        for start, end in self.scans:
            restarts = islice(_RESTART.finditer(self.data, start, end), blocks)
            for place in [*(restart.start() for restart in restarts), end]:
                pieces += [self.data[at:place], _ADDED]
                at = place
        more = _decoded(b"".join([*pieces, self.data[at:]]))
        if more is None or more.size != image.size:
            return 0
        if more.tobytes() == image.tobytes():
            return None
        other = np.asarray(more) != np.asarray(image)
        return int(np.flatnonzero(other.reshape(len(other), -1).any(axis=1))[0])

    def has_unused_data(self, image: Image.Image) -> bool:
        """Whether its last scan goes on behind the last block; not known of progressive files."""
        if not self.sequential or not self.scans:
            return False
        return all(self._is_unused(image, flip) for flip in _FLIPS)

    def _is_unused(self, image: Image.Image, flip: int) -> bool:
        start, end = self.scans[-1]
        changed, left = bytearray(self.data), _CHANGED
        at = end - 2  # the last byte may have one bit in use
        while left and at > start:
            marked = changed[at] == 0xFF or changed[at - 1] == 0xFF
            if not marked and changed[at] ^ flip != 0xFF:
                changed[at] ^= flip
                left -= 1
            at -= 1
        if left:
            return False
        changed[end:end] = _ADDED  # else what they leave open would be filled with grey
        other = _decoded(bytes(changed))
        return other is not None and other.tobytes() == image.tobytes()


def _decoded(data: bytes) -> Image.Image | None:
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG",))
        image.load()
    except Exception:  # the change made it unreadable
        return None
    return image
