"""Image bytes to pixels: limits before decoding, EXIF applied once, every mode to RGB."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import PIL.Image

from function.container import Container, read_container
from function.errors import ImageCorrupt, ImageEmpty, ImageTooLarge

try:
    import cykooz_resizer as simd
except ImportError:  # no wheel for this platform, such as Linux on ARM
    simd = None

RESIZED_BY = "Pillow" if simd is None else simd.__name__
# A 24 MP camera JPEG is about 10 MB; S3 and HTTP share the limit.
MAX_IMAGE_BYTES = 20 * 1024 * 1024
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
SIDEWAYS = (5, 6, 7, 8)
# A JPEG's decoder reads eight bytes ahead, and an end marker stands for whatever is missing: so it
# gets some bytes more and no marker, and asks for more where its picture is not whole.
BEYOND = b"\0" * 16
# What a decoder skips between scans, and what no codes of a scan are likely to be, each and all.
PROBES = bytes.fromhex("6a5be7d3b6f4796d4e9bd9a7bc5e6d37")
# Bytes a pixel that decoding holds at its worst moment. A picture takes four, and as many again
# each time it is converted or turned; libwebp keeps two canvases of four, and Pillow a copy.
PIXEL_BYTES = {"JPEG": 8, "PNG": 12, "WEBP": 16}
COEFFICIENT_BYTES = 2  # of a JPEG of several scans
# Decoded pixels for each of the model's input, a side: of 62 photos at 816 px in place of 896, AP
# stays. At 800 px a shelf of flat packs was read as ten rows, not seven.
ENOUGH = 0.9
PLAIN = 16  # levels that pixels of one colour may lie apart in lossy data
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


class _Probe(bytes):
    """A byte that notes how many bytes were left over when Pillow added it to them."""

    left = 0

    def __radd__(self, left: bytes) -> bytes:
        self.left = len(left)
        return left + bytes(self)


class _JpegFile(io.BytesIO):
    """A JPEG without its end marker, and what a decoder is given where it reads on.

    That of several scans asks for more whether its last scan was whole or not. But between scans it
    takes every byte, and within one it leaves those of a block that it cannot finish: so it gets
    byte after byte, and the marker last.
    """

    def __init__(self, container: Container) -> None:
        super().__init__(container.data)
        self.probes = [_Probe([byte]) for byte in PROBES] if container.coefficients else []
        end = [*self.probes, b"\xff\xd9"] if container.coefficients else []
        self._beyond = iter([BEYOND, *end])

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size) or next(self._beyond, b"")

    @property
    def whole(self) -> bool:
        """Whether the decoder had all of its last scan."""
        return not any(probe.left for probe in self.probes)


@dataclass(frozen=True, kw_only=True)
class Header:
    """What an image says of itself, checked; nothing is decoded yet."""

    container: Container
    bytes: int
    scale: int = 1  # decoded to 1/1, 1/2, 1/4 or 1/8

    @property
    def width(self) -> int:
        """The stored width in pixels; the orientation may turn it."""
        return self.container.width

    @property
    def height(self) -> int:
        """The stored height in pixels."""
        return self.container.height

    def memory(self) -> int:
        """Count the bytes that decoding takes at its worst moment, the container's included."""
        container, pixels = self.container, self.width * self.height
        if container.format == "JPEG":  # scaled while it is decoded
            held = COEFFICIENT_BYTES * container.coefficients
            pixels = -(-self.width // self.scale) * -(-self.height // self.scale)
        else:
            held = 0
        return len(container.data) + held + PIXEL_BYTES[container.format] * pixels

    @property
    def decodes_whole(self) -> bool:
        """Whether it is scaled only after decoding: all but baseline JPEGs are."""
        return self.container.format != "JPEG" or self.container.coefficients > 0

    def scaled_for(self, size: tuple[int, int]) -> Header:
        """Take the same image at the scale for a model's input (width, height)."""
        return replace(self, scale=_scale((self.width, self.height), size))

    def decode(self) -> Image:
        """Decode to upright RGB. Raises `ImageCorrupt`."""
        container, exif = self.container, self.container.exif
        try:
            picture = self._upright(self._whole(self._load()))
        except (PIL.UnidentifiedImageError, *DECODE_ERRORS) as err:
            raise _corrupt(container, "it is truncated or damaged") from err
        width, height = self.width, self.height
        if exif.orientation in SIDEWAYS:
            width, height = height, width
        return Image(
            picture=picture,
            width=width,
            height=height,
            bytes=self.bytes,
            orientation=exif.orientation or 1,
            taken=exif.taken,
        )

    def _load(self) -> PIL.Image.Image:
        """Decode as it is stored, and let the decoder go, which keeps pictures of its own."""
        container = self.container
        data = _JpegFile(container) if container.format == "JPEG" else io.BytesIO(container.data)
        with PIL.Image.open(data, formats=(container.format,)) as file:
            if file.size != (self.width, self.height):  # memory is taken for what was checked
                raise _corrupt(container, "its header is truncated or damaged")
            if not isinstance(data, _JpegFile):
                file.load()
                return file._new(file.im)
            if self.scale > 1:
                file.draft(None, (file.width // self.scale or 1, file.height // self.scale or 1))
            try:
                file.load()
            except OSError as err:
                raise _corrupt(container, _where(file)) from err
            if not data.whole:
                raise _corrupt(container, "its last scan did not arrive whole")
            return file._new(file.im)

    def _whole(self, image: PIL.Image.Image) -> PIL.Image.Image:
        """Check that what the zeros at the data's end stand for is of one colour."""
        if self.container.plain_from:
            box = *self.container.plain_from, self.width, self.height
            colours = image.crop(box).convert("RGB").getextrema()
            if any(high - low > PLAIN for low, high in colours):  # type: ignore[misc]  # pairs, of several bands
                raise _corrupt(self.container, "it did not arrive whole, its data ends in zeros")
        return image

    def _upright(self, image: PIL.Image.Image) -> PIL.Image.Image:
        """Reduce, make opaque and turn; each step lets go of the one before."""
        left = self.scale * max(image.size) // max(self.width, self.height)
        image = _to_averages(image, self.container.bits)
        if left > 1:  # draft has done so already for a JPEG
            image = image.reduce(left)
        image = _opaque(image)
        turn = TURNS.get(self.container.exif.orientation)
        return image if turn is None else image.transpose(turn)


def read_image(data: bytes, size: tuple[int, int] | None = None) -> Image:
    """Decode a JPEG, PNG or WebP still to upright RGB.

    `size` is the model's input (width, height): an image of nearly twice that is decoded at
    reduced scale, which costs a JPEG a quarter of the time, and all of them a quarter of the
    memory. Raises `ImageEmpty`, `ImageTooLarge`, `ImageUnsupported` or `ImageCorrupt`.
    """
    return read_header(data, size).decode()


def read_header(data: bytes, size: tuple[int, int] | None = None) -> Header:
    """Check an image's bytes and what its container claims; `size` as in `read_image`.

    Raises `ImageEmpty`, `ImageTooLarge`, `ImageUnsupported` or `ImageCorrupt`.
    """
    if not data:
        msg = "The image must have bytes, got none"
        raise ImageEmpty(msg)
    if len(data) > MAX_IMAGE_BYTES:
        msg = f"The image must have at most {MAX_IMAGE_BYTES} bytes, got {len(data)}"
        raise ImageTooLarge(msg)
    header = Header(container=read_container(data), bytes=len(data))
    return header.scaled_for(size) if size else header


def captured_at(taken: datetime | None, uploaded: datetime) -> datetime:
    """Say when a photo was taken: what EXIF says where it is believable, else the upload."""
    if taken and -CLOCK_SKEW <= uploaded - taken <= OLDEST_CAPTURE:
        return taken
    return uploaded


def _scale(stored: tuple[int, int], size: tuple[int, int]) -> int:
    """Choose the largest of 1, 2, 4, 8 that leaves enough pixels, whichever way up it is."""
    excess = min(
        max(stored[0] / size[0], stored[1] / size[1]), max(stored[1] / size[0], stored[0] / size[1])
    )
    return max(scale for scale in (1, 2, 4, 8) if scale <= max(1, excess / ENOUGH))


def _corrupt(container: Container, why: str) -> ImageCorrupt:
    return ImageCorrupt(f"The {container.format} image cannot be decoded: {why}")


def _where(file: PIL.Image.Image) -> str:
    """Tell where the decoded rows end: what follows them is still black."""
    box = file.im.getbbox()
    if not box:
        return "it is truncated or damaged from the start"
    return f"it is truncated or damaged, its data ends at {box[3] / file.height:.0%} of the height"


def _to_averages(image: PIL.Image.Image, bits: int) -> PIL.Image.Image:
    """Turn modes whose values cannot be averaged into ones whose can.

    Palettes go by their colours, 16-bit samples by the eight highest bits that are used.
    """
    if image.mode.startswith("I"):
        # convert("RGB") would clip everything above 255 to white.
        samples = np.asarray(image)
        unused = max(int(samples.max()).bit_length(), 8) - 8
        return PIL.Image.fromarray((samples >> unused).astype(np.uint8))
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "P":
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    if bits == 16 and image.mode in ("RGB", "RGBA", "LA"):
        return _brightened(image)
    return image


def _brightened(image: PIL.Image.Image) -> PIL.Image.Image:
    """Undo what a camera of 12 bits leaves unused in 16; Pillow keeps the higher eight of them."""
    extrema = image.getextrema()
    bands = len(image.getbands())
    colours = bands - 1 if image.mode in ("RGBA", "LA") else bands
    most = max(int(high) for _, high in extrema[:colours])  # type: ignore[misc]  # pairs, where there are several bands
    room = 8 - max(most.bit_length(), 4)
    if room <= 0:
        return image
    curve = [min(255, value * 255 // ((1 << 8 - room) - 1)) for value in range(256)]
    plain = list(range(256))
    return image.point(curve * colours + plain * (bands - colours))


def _opaque(image: PIL.Image.Image) -> PIL.Image.Image:
    """Turn any mode into RGB, transparency over white."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode != "RGBA":
        image = image.convert("RGBA")
    canvas = PIL.Image.new("RGB", image.size, "white")
    canvas.paste(image, mask=image)
    return canvas
