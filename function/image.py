"""Image bytes to pixels: limits before decoding, EXIF applied once, every mode to RGB."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import PIL.Image

from function.errors import ImageCorrupt, ImageEmpty, ImageTooLarge, ImageUnsupported

try:
    import cykooz_resizer as simd
except ImportError:  # no wheel for this platform, such as Linux on ARM
    simd = None

RESIZED_BY = "Pillow" if simd is None else simd.__name__
# What cameras, phones and browsers send; each further decoder is attack surface.
FORMATS = ("JPEG", "PNG", "WEBP")
JPEGS = ("JPEG", "MPO")
# A 24 MP camera JPEG is about 10 MB; S3 and HTTP share the limit.
MAX_IMAGE_BYTES = 20 * 1024 * 1024
# 50 MP decode to 150 MB of RGB; a 27 kB PNG can claim 225 MP, so the header is asked first.
MAX_IMAGE_PIXELS = 50_000_000
EXIF_ORIENTATION = 0x0112
# When the photo was taken and the clock's offset from UTC, by the camera or by the last program.
# https://www.cipa.jp/std/documents/download_e.html?DC-008-Translation-2023-E
EXIF_PHOTO = 0x8769
EXIF_TIMES = ((EXIF_PHOTO, 0x9003, 0x9011), (0, 0x0132, 0x9010))
# Cameras without a network send the next day; a clock that is off by more than two is wrong.
OLDEST_CAPTURE = timedelta(hours=48)
CLOCK_SKEW = timedelta(minutes=1)
TURNS = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
SIDEWAYS = [TURNS[orientation] for orientation in (5, 6, 7, 8)]
# What Pillow's decoders raise for damaged files, collected from its plugins.
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, IndexError)


@dataclass(frozen=True, kw_only=True)
class Image:
    """A decoded image; `picture` may be at reduced scale, `width` and `height` never are."""

    picture: PIL.Image.Image  # RGB, EXIF applied
    width: int  # of the image as a person sees it, in its own pixels
    height: int
    bytes: int
    orientation: int  # the EXIF value that was applied, 1 to 8
    taken: datetime | None = None  # as EXIF says, where it names its offset from UTC

    @classmethod
    def of(cls, pixels: npt.NDArray[np.uint8]) -> Image:
        """Take an image that was never encoded, (h, w, 3) RGB."""
        return cls(
            picture=PIL.Image.fromarray(pixels),
            width=pixels.shape[1],
            height=pixels.shape[0],
            bytes=0,
            orientation=1,
        )

    @property
    def pixels(self) -> npt.NDArray[np.uint8]:
        """Copy the picture's pixels, (h, w, 3) RGB."""
        return np.asarray(self.picture)

    def resized(self, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """Resize the picture to `size` (width, height): (height, width, 3) RGB.

        Bilinear, over all pixels where it shrinks, as Pillow does it. Pillow takes four times as
        long as `cykooz_resizer`; no value of theirs differs by more than one.
        """
        if simd is None:
            return np.asarray(self.picture.resize(size, PIL.Image.Resampling.BILINEAR))
        pixel = simd.PixelType.U8x3
        # Through bytes: its way into Pillow's own memory is faster by a fifth, but goes by the
        # layout of Pillow's structures, which no version promises.
        stored = simd.ImageData(*self.picture.size, pixel, self.picture.tobytes())
        scaled = simd.ImageData(*size, pixel)
        bilinear = simd.ResizeAlg.convolution(simd.FilterType.bilinear)
        # One resizer for all threads would have them wait for each other.
        simd.Resizer().resize(stored, scaled, simd.ResizeOptions(bilinear))
        del stored  # before the next megabytes are taken
        pixels = np.frombuffer(scaled.get_buffer(), np.uint8)
        return pixels.reshape(size[1], size[0], 3)


@dataclass(frozen=True, kw_only=True)
class Header:
    """What an image says of itself, checked; nothing is decoded yet."""

    file: PIL.Image.Image
    width: int  # as it is stored; EXIF, which may turn it, can follow after the pixels
    height: int
    bytes: int
    scale: int = 1  # decoded to 1/1, 1/2, 1/4 or 1/8

    def pixels_to_decode(self) -> int:
        """Count the pixels that decoding takes memory for."""
        whole = self.decodes_whole
        return self.width * self.height if whole else self.file.width * self.file.height

    @property
    def decodes_whole(self) -> bool:
        """Whether it is scaled only after decoding: all but baseline JPEGs are."""
        return self.file.format not in JPEGS or bool(self.file.info.get("progressive"))

    def decode(self) -> Image:
        """Decode to upright RGB, once. Raises `ImageCorrupt`."""
        try:
            self.file.load()
            exif = self.file.getexif()
            orientation, taken = exif.get(EXIF_ORIENTATION, 1), _taken(exif)
            turn = TURNS.get(orientation)
            picture = _to_rgb(_turned(self._reduced(), turn))
        except DECODE_ERRORS as err:
            msg = f"The {self.file.format} image cannot be decoded: it is truncated or damaged"
            self.file.close()
            raise ImageCorrupt(msg) from err
        if picture is not self.file:
            self.file.close()  # its own copy of the pixels would live as long as the header
        width, height = self.width, self.height
        if turn in SIDEWAYS:
            width, height = height, width
        return Image(
            picture=picture,
            width=width,
            height=height,
            bytes=self.bytes,
            orientation=orientation if turn is not None else 1,
            taken=taken,
        )

    def _reduced(self) -> PIL.Image.Image:
        """Scale down, unless draft has done so already for a JPEG."""
        left = self.scale * max(self.file.size) // max(self.width, self.height)
        image = _reducible(self.file)
        return image.reduce(left) if left > 1 else image


def read_image(data: bytes, size: tuple[int, int] | None = None) -> Image:
    """Decode a JPEG, PNG or WebP still to upright RGB.

    `size` is the model's input (width, height): an image of at least twice that is decoded at
    reduced scale, which costs a JPEG a quarter of the time, and all of them a quarter of the
    memory. Raises `ImageEmpty`, `ImageTooLarge`, `ImageUnsupported` or `ImageCorrupt`.
    """
    return read_header(data, size).decode()


def read_header(data: bytes, size: tuple[int, int] | None = None) -> Header:
    """Check an image's bytes and what its header claims; `size` as in `read_image`.

    Raises `ImageEmpty`, `ImageTooLarge`, `ImageUnsupported` or `ImageCorrupt`.
    """
    if not data:
        msg = "The image must have bytes, got none"
        raise ImageEmpty(msg)
    if len(data) > MAX_IMAGE_BYTES:
        msg = f"The image must have at most {MAX_IMAGE_BYTES} bytes, got {len(data)}"
        raise ImageTooLarge(msg)
    file = _open(data)
    scale = _scale(file.size, size) if size else 1
    header = Header(file=file, width=file.width, height=file.height, bytes=len(data), scale=scale)
    if scale > 1:  # does nothing but for JPEGs
        file.draft(None, (file.width // scale or 1, file.height // scale or 1))
    return header


def captured_at(taken: datetime | None, uploaded: datetime) -> datetime:
    """Say when a photo was taken: what EXIF says where it is believable, else the upload."""
    if taken and uploaded - OLDEST_CAPTURE <= taken <= uploaded + CLOCK_SKEW:
        return taken
    return uploaded


def _taken(exif: PIL.Image.Exif) -> datetime | None:
    """Read EXIF's time with its offset; None where either is missing or odd."""
    for place, tag, offset_tag in EXIF_TIMES:
        tags = exif.get_ifd(EXIF_PHOTO)
        found, offset = (exif if not place else tags).get(tag), tags.get(offset_tag)
        try:
            return datetime.strptime(f"{found} {offset}", "%Y:%m:%d %H:%M:%S %z")
        except ValueError:
            continue
    return None


def _scale(stored: tuple[int, int], size: tuple[int, int]) -> int:
    """Choose the largest of 1, 2, 4, 8 that leaves enough pixels, whichever way up it is."""
    excess = min(
        max(stored[0] / size[0], stored[1] / size[1]), max(stored[1] / size[0], stored[0] / size[1])
    )
    return max(scale for scale in (1, 2, 4, 8) if scale <= max(1, excess))


def _open(data: bytes) -> PIL.Image.Image:
    """Read the header and check what it claims."""
    try:
        file = PIL.Image.open(io.BytesIO(data), formats=FORMATS)
        # A phone's MPO holds a JPEG and its preview: the first frame is the photo.
        animated = getattr(file, "n_frames", 1) > 1 and file.format != "MPO"
    except PIL.UnidentifiedImageError as err:
        msg = f"The image must be one of {', '.join(FORMATS)}"
        raise ImageUnsupported(msg) from err
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as err:
        msg = f"The image must have at most {MAX_IMAGE_PIXELS} pixels, got more"
        raise ImageTooLarge(msg) from err
    except DECODE_ERRORS as err:
        msg = "The image's header must be whole, and is damaged"
        raise ImageCorrupt(msg) from err
    if file.width * file.height > MAX_IMAGE_PIXELS:
        size = f"{file.width} x {file.height}"
        msg = f"The image must have at most {MAX_IMAGE_PIXELS} pixels, got {size}"
        raise ImageTooLarge(msg)
    if animated:
        msg = f"The {file.format} image must be a still, and is animated"
        raise ImageUnsupported(msg)
    return file


def _turned(image: PIL.Image.Image, turn: PIL.Image.Transpose | None) -> PIL.Image.Image:
    return image if turn is None else image.transpose(turn)


def _reducible(file: PIL.Image.Image) -> PIL.Image.Image:
    """Turn the modes whose values cannot be averaged into ones whose can: 16-bit grey by its high
    byte, palettes by their colours."""
    if file.mode.startswith("I"):
        # convert("RGB") would clip everything above 255 to white.
        return PIL.Image.fromarray((np.asarray(file) >> 8).clip(0, 255).astype(np.uint8))
    if file.mode == "1":
        return file.convert("L")
    if file.mode == "P":
        return file.convert("RGBA" if file.has_transparency_data else "RGB")
    return file


def _to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """Turn any mode into RGB, transparency over white."""
    if image.mode == "RGB":
        return image
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = PIL.Image.new("RGBA", rgba.size, "white")
        return PIL.Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")
