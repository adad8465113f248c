"""Image bytes to pixels: limits before decoding, EXIF applied once, every mode to RGB."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps

from function.errors import ImageCorrupt, ImageEmpty, ImageTooLarge, ImageUnsupported

# What cameras, phones and browsers send; each further decoder is attack surface.
FORMATS = ("JPEG", "PNG", "WEBP")
# A 24 MP camera JPEG is about 10 MB; S3 and HTTP share the limit.
MAX_IMAGE_BYTES = 20 * 1024 * 1024
# 50 MP decode to 150 MB of RGB; a 27 kB PNG can claim 225 MP, so the header is asked first.
MAX_IMAGE_PIXELS = 50_000_000
EXIF_ORIENTATION = 0x0112
# What Pillow's decoders raise for damaged files, collected from its plugins.
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, IndexError)


@dataclass(frozen=True)
class Image:
    """A decoded image; `pixels` may be at reduced scale, `width` and `height` never are."""

    pixels: npt.NDArray[np.uint8]  # (h, w, 3) RGB, EXIF applied
    width: int  # of the image as a person sees it, in its own pixels
    height: int
    bytes: int
    orientation: int  # the EXIF value that was applied, 1 to 8


def read_image(data: bytes, size: tuple[int, int] | None = None) -> Image:
    """Decode a JPEG, PNG or WebP still to upright RGB.

    `size` is the model's input (width, height): a JPEG of at least twice that is decoded at
    reduced scale, which costs a quarter of the time. Raises `ImageEmpty`, `ImageTooLarge`,
    `ImageUnsupported` or `ImageCorrupt`.
    """
    if not data:
        msg = "The image has no bytes"
        raise ImageEmpty(msg)
    if len(data) > MAX_IMAGE_BYTES:
        msg = f"The image has {len(data)} bytes, the limit is {MAX_IMAGE_BYTES}"
        raise ImageTooLarge(msg)
    with _open(data) as file:
        try:
            return _decode(file, len(data), size)
        except DECODE_ERRORS as err:
            msg = f"The {file.format} image cannot be decoded: it is truncated or damaged"
            raise ImageCorrupt(msg) from err


def _open(data: bytes) -> PIL.Image.Image:
    """Read the header and check what it claims."""
    try:
        file = PIL.Image.open(io.BytesIO(data), formats=FORMATS)
    except PIL.UnidentifiedImageError as err:
        msg = f"The image is none of {', '.join(FORMATS)}"
        raise ImageUnsupported(msg) from err
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as err:
        msg = f"The image has more than {MAX_IMAGE_PIXELS} pixels"
        raise ImageTooLarge(msg) from err
    except DECODE_ERRORS as err:
        msg = "The image's header is damaged"
        raise ImageCorrupt(msg) from err
    if file.width * file.height > MAX_IMAGE_PIXELS:
        msg = f"The image has {file.width} x {file.height} pixels, the limit is {MAX_IMAGE_PIXELS}"
        raise ImageTooLarge(msg)
    # A phone's MPO holds a JPEG and its preview: the first frame is the photo.
    if getattr(file, "n_frames", 1) > 1 and file.format != "MPO":
        msg = f"The {file.format} image is animated"
        raise ImageUnsupported(msg)
    return file


def _decode(file: PIL.Image.Image, size_in_bytes: int, size: tuple[int, int] | None) -> Image:
    orientation = file.getexif().get(EXIF_ORIENTATION, 1)
    if orientation not in range(1, 9):
        orientation = 1  # as browsers do
    turned = orientation >= 5
    width, height = (file.height, file.width) if turned else (file.width, file.height)
    if size:
        content = min(size[0] / width, size[1] / height)
        # Pillow takes the smallest of 1/1, 1/2, 1/4, 1/8 that is not below what is asked for.
        file.draft(None, (int(file.width * content) or 1, int(file.height * content) or 1))
    upright = PIL.ImageOps.exif_transpose(file) if orientation > 1 else file
    pixels = np.asarray(_to_rgb(upright))
    return Image(pixels, width, height, size_in_bytes, orientation)


def _to_rgb(file: PIL.Image.Image) -> PIL.Image.Image:
    """Turn any mode into RGB: 16-bit grey by its high byte, transparency over white."""
    if file.mode == "RGB":
        return file
    if file.mode.startswith("I"):
        # convert("RGB") would clip everything above 255 to white.
        high_byte = (np.asarray(file).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)
        return PIL.Image.fromarray(high_byte).convert("RGB")
    if file.has_transparency_data:
        rgba = file.convert("RGBA")
        white = PIL.Image.new("RGBA", rgba.size, "white")
        return PIL.Image.alpha_composite(white, rgba).convert("RGB")
    return file.convert("RGB")
