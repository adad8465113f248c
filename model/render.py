"""Draws photos of retail shelves and knows the true box of every product in them.

The scene is drawn flat at twice the size of the picture, packages standing on shelf rows. One
homography then turns picture and outlines alike, and light, blur and noise make it a photo.
"""

import argparse
import colorsys
import io
import sys
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from model.options import at_least

Colour = tuple[int, int, int]
Floats = npt.NDArray[np.float64]
Rng = np.random.Generator

SUPERSAMPLE = 2  # scene pixels a picture pixel: halving the picture is the only anti-aliasing
MIN_VISIBLE = 0.5  # share of a box; products that show less of it are dropped
EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True, kw_only=True)
class RenderedShelf:
    """Hold a picture and what is true about it; boxes are xyxy in picture pixels."""

    image: npt.NDArray[np.uint8]  # (H, W, 3) RGB
    xyxy: npt.NDArray[np.float32]  # (n, 4) visible products
    row: npt.NDArray[np.int64]  # (n,) shelf row of each, 0 at the top
    gaps: npt.NDArray[np.float32]  # (m, 4) missing products
    gap_row: npt.NDArray[np.int64]  # (m,)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Describe a package."""

    outline: tuple[tuple[float, float], ...]  # (height from the top, half the width), 0..1
    aspect: tuple[float, float]  # width / height, lowest and highest
    cap: float = 0.0  # share of the height that is lid
    round: float = 0.1  # how much darker the sides are than the middle, 0..1
    stacks: bool = False


BOX = Kind(outline=((0, 0.5), (1, 0.5)), aspect=(0.4, 0.95), stacks=True)
BOTTLE = Kind(
    outline=((0, 0.17), (0.22, 0.18), (0.36, 0.46), (0.42, 0.5), (1, 0.48)),
    aspect=(0.3, 0.42),
    cap=0.1,
    round=0.6,
)
FLASK = Kind(
    outline=((0, 0.24), (0.14, 0.24), (0.2, 0.44), (0.26, 0.5), (1, 0.47)),
    aspect=(0.38, 0.55),
    cap=0.15,
    round=0.4,
)
CAN = Kind(
    outline=((0, 0.42), (0.05, 0.5), (0.95, 0.5), (1, 0.43)),
    aspect=(0.5, 0.75),
    cap=0.04,
    round=0.6,
    stacks=True,
)
JAR = Kind(
    outline=((0, 0.45), (0.2, 0.45), (0.27, 0.5), (1, 0.47)),
    aspect=(0.6, 0.95),
    cap=0.2,
    round=0.5,
    stacks=True,
)
BAG = Kind(
    outline=((0, 0.49), (0.12, 0.45), (0.5, 0.5), (0.9, 0.46), (1, 0.49)),
    aspect=(0.6, 0.85),
    cap=0.0,
    round=0.35,
)
KINDS = (BOX, BOX, BOTTLE, FLASK, CAN, JAR, BAG)
TRAY_KINDS = (BAG, BAG, BAG, BOX, JAR)
TRAYS = ("clear", "wire", "lip")  # fronts: see-through plastic, a grid, or solid
TRAY_EVERY = 4  # of the shelves in a data set, one in four has trays
MAX_SUNK = 0.3  # share of a package that slumps out of sight


@dataclass(frozen=True)
class Product:
    """Hold what stands in a run: its front, a RGBA picture, and how many are stacked."""

    kind: Kind
    face: Image.Image
    levels: int


@dataclass
class Scene:
    """Collect the flat drawing and the outlines (k, 2) of what stands or is missing on it."""

    canvas: Image.Image
    tray: str | None = None  # the front of the trays that all stands in, one of TRAYS
    products: list[tuple[int, Floats]] = field(default_factory=list)  # (row, outline)
    gaps: list[tuple[int, Floats]] = field(default_factory=list)


def pick_colour(rng: Rng, saturation: tuple[float, float], value: tuple[float, float]) -> Colour:
    """Pick a colour of any hue within two ranges, 0..1."""
    rgb = colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))
    return round(255 * rgb[0]), round(255 * rgb[1]), round(255 * rgb[2])


def pick_ink(rng: Rng) -> Colour:
    """Pick a colour that brands use: vivid, pale or dark."""
    tones = (((0.6, 1.0), (0.45, 0.95)), ((0.0, 0.15), (0.8, 1.0)), ((0.1, 0.7), (0.1, 0.35)))
    return pick_colour(rng, *tones[rng.choice(3, p=(0.6, 0.25, 0.15))])


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Mix two colours; share (0..1) is the second one's."""
    red, green, blue = (round(x + share * (y - x)) for x, y in zip(a, b, strict=True))
    return red, green, blue


def draw_words(rng: Rng, pen: ImageDraw.ImageDraw, xyxy: tuple[float, ...], ink: Colour) -> None:
    """Draw a line of strokes that reads as print from afar, xyxy in pixels."""
    left, top, right, bottom = xyxy
    size = bottom - top
    while left + 0.3 * size < right:
        end = min(left + rng.uniform(0.45, 0.75) * size, right)
        if rng.random() < 0.85:  # else a space between words
            bar = top + rng.choice((0.0, 0.4, 0.85)) * size
            for stem in (left, end - 0.15 * size)[: rng.integers(1, 3)]:
                pen.rectangle((stem, top, stem + 0.15 * size, bottom), ink)
            pen.rectangle((left, bar, end, bar + 0.15 * size), ink)
        left = end + 0.15 * size


def draw_print(rng: Rng, face: Image.Image, base: Colour) -> None:
    """Print bands, a label, a picture, a logo, text and a badge on a face, in place."""
    width, height = face.size
    dark, pale = pick_colour(rng, (0.2, 0.9), (0.05, 0.3)), pick_colour(rng, (0.0, 0.12), (0.88, 1))
    accent, tint = pick_ink(rng), dark if rng.random() < 0.5 else pale
    face.paste(mix(base, tint, 0.45), mask=Image.linear_gradient("L").resize(face.size))
    pen = ImageDraw.Draw(face)
    for deep in rng.uniform(0.015, 0.09, rng.integers(0, 4)) * height:
        y, slope = rng.uniform(0.03, 0.95) * height, rng.uniform(-0.12, 0.12) * height
        band = ((0, y), (width, y + slope), (width, y + slope + deep), (0, y + deep))
        pen.polygon(band, mix(base, accent, rng.uniform(0.25, 0.7)))
    # Labels leave a margin: a full-width one cuts the package in two, and real ones go round.
    left, top, bottom = rng.uniform((0.06, 0.3, 0.62), (0.16, 0.5, 0.92)) * (width, height, height)
    paper = mix(base, pale, rng.uniform(0.3, 1.0))
    pen.rounded_rectangle((left, top, width - left, bottom), 0.06 * width, paper)
    glow = ImageOps.invert(Image.radial_gradient("L")).resize((width, round(bottom - top)))
    face.paste(accent, (round(rng.uniform(-0.3, 0.3) * width), round(top)), glow)
    y, logo = top + rng.uniform(-0.2, 0.05) * height, rng.uniform(0.13, 0.26) * height
    sign = (0.1 * width, y, 0.9 * width, y + logo)
    shape = rng.integers(3)  # the third kind of logo is bare text
    if shape == 0:
        pen.ellipse(sign, accent, pale, 3)
    elif shape == 1:
        pen.rounded_rectangle(sign, 0.2 * logo, accent, pale, 2)
    ink = dark if sum(accent if shape < 2 else paper) > 380 else pale
    draw_words(rng, pen, (0.18 * width, y + 0.25 * logo, 0.85 * width, y + 0.75 * logo), ink)
    ink = dark if sum(paper) > 380 else pale
    for line in np.arange(y + 1.2 * logo, bottom - 0.03 * height, 0.055 * height).tolist():
        end = rng.uniform(0.5, 0.85) * width
        draw_words(rng, pen, (left + 0.06 * width, line, end, line + 0.028 * height), ink)
    x, y, r = rng.uniform((0.15, 0.08, 0.06), (0.85, 0.25, 0.13)) * (width, height, width)
    pen.ellipse((x - r, y - r, x + r, y + r), mix(accent, pale, 0.5))


def light_on(rng: Rng, kind: Kind, width: int, height: int) -> Floats:
    """Give the light on a face, (height, width, 1); at 1.0 the print keeps its colour."""
    x, y = np.linspace(-1, 1, width), np.linspace(-1, 1, height)[:, None]
    light = 1.0 - kind.round * np.abs(x) ** 2.5 + 0.3 * kind.round * np.exp(-((7 * x + 3) ** 2))
    light = light * (1.05 - 0.15 * (y > 0) * y**2)
    if kind is BAG:
        light += 0.1 * np.sin(rng.uniform(3, 5) * y + 2 * x)  # folds
    edge = np.maximum(np.abs(x) - 1 + 5 / width, np.abs(y) - 1 + 5 / height)
    return np.where(edge > 0, 0.55 * light, light)[..., None]  # so that neighbours do not merge


def outline_of(kind: Kind, width: float, height: float) -> Floats:
    """Trace a package around its middle, (2k, 2) pixels."""
    y, half = np.array(kind.outline).T
    right = np.stack((half * width, (y - 0.5) * height), axis=1)
    return np.concatenate((right, right[::-1] * (-1, 1)))


def draw_face(rng: Rng, kind: Kind, base: Colour, width: int, height: int) -> Image.Image:
    """Draw the front of a package, RGBA, width x height pixels."""
    face, mask = Image.new("RGB", (width, height), base), Image.new("L", (width, height))
    draw_print(rng, face, base)
    lid = pick_colour(rng, (0.0, 0.1), (0.6, 0.85)) if kind is CAN else pick_ink(rng)
    if kind.cap:
        box = (0, -3, width, kind.cap * height)
        ImageDraw.Draw(face).rectangle(box, lid, (40, 40, 40), 3)
    lit = np.clip(np.asarray(face) * light_on(rng, kind, width, height), 0, 255)
    outline = outline_of(kind, width, height) + np.array((width, height)) / 2
    ImageDraw.Draw(mask).polygon(outline.ravel().tolist(), 255)
    face = Image.fromarray(lit.astype(np.uint8))
    face.putalpha(mask)
    return face


def pick_product(rng: Rng, kind: Kind, base: Colour, clear: float) -> Product:
    """Make up a product that fits under a shelf, clear pixels high."""
    levels = 2 if kind.stacks and rng.random() < 0.12 else 1
    height = int(clear * (rng.uniform(0.38, 0.46) if levels == 2 else rng.uniform(0.55, 0.93)))
    width = int(height * rng.uniform(*kind.aspect))
    return Product(kind, draw_face(rng, kind, base, width, height), levels)


def place(rng: Rng, canvas: Image.Image, product: Product, middle: Floats) -> Floats:
    """Put one package, a little turned, around a point and give its outline on the canvas."""
    angle = rng.normal(0, 0.5)
    face = ImageEnhance.Brightness(product.face).enhance(rng.uniform(0.85, 1.05))
    face = face.rotate(angle, Image.Resampling.BILINEAR, expand=True)
    x, y = np.round(middle - np.array(face.size) / 2).astype(int).tolist()
    canvas.paste(face, (x, y), face)
    return outline_of(product.kind, *product.face.size) @ rotation(angle) + middle


def rotation(degrees: float) -> Floats:
    """Give the (2, 2) matrix that turns row vectors against the clock where y points down."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array(((cos, -sin), (sin, cos)))


def draw_front(rng: Rng, style: str, width: int, height: int) -> Image.Image:
    """Draw the front of a tray, RGBA, width x height pixels; style is one of TRAYS."""
    front = Image.new("RGBA", (width, height))
    pen, grey = ImageDraw.Draw(front), int(rng.integers(150, 240))
    rim = (grey, grey, grey, 255)
    if style == "clear":
        pen.rectangle((0, 0, width - 1, height - 1), (grey, grey, grey, int(rng.integers(20, 100))))
        pen.rectangle((0, 0, width - 1, height - 1), outline=(*rim[:3], 170), width=3)
        for y in (0.55, 0.9, 0.96):
            pen.line((0, y * height, width, y * height), (*rim[:3], 200), 3)
    elif style == "wire":
        for y in np.linspace(1, height - 3, 4).tolist():
            pen.line((0, y, width, y), rim, 4)
        for x in np.linspace(1, width - 3, max(4, width // 24)).tolist():
            pen.line((x, 0, x, height), rim, 3)
    else:
        pen.rectangle((0, 0, width, height), mix(pick_ink(rng), (25, 25, 25), rng.uniform(0.6, 1)))
        pen.line((0, 1, width, 1), rim, 3)
    if rng.random() < 0.5:
        left, deep = rng.uniform(0.04, 0.2) * width, min(0.4 * height, 0.3 * width)
        top, right = height - 1.15 * deep, left + rng.uniform(0.6, 0.76) * width
        pen.rectangle((left, top, right, top + deep), (240, 240, 235))
        price = (left + 0.5 * (right - left), top + 0.15 * deep, right, top + 0.85 * deep)
        draw_words(rng, pen, (left + 3, top + 0.2 * deep, right, top + 0.4 * deep), (40, 40, 45))
        draw_words(rng, pen, price, (40, 40, 45))
    return front


def draw_run(
    rng: Rng, scene: Scene, product: Product, row: int, start: tuple[float, float], gap_rate: float
) -> float:
    """Stand facings of a product side by side from start = (x, floor) on; give the x of the end.

    In trays the packages lean and sink, and a tray is there with nothing in it, too.
    """
    x, floor = start
    width, height = product.face.size
    facings = int(rng.integers(2, 8))
    missing = int(rng.binomial(facings, gap_rate))  # side by side, as customers leave them
    first = int(rng.integers(0, facings - missing + 1))
    for i in range(facings):
        middle = np.array((x + width / 2, floor - height / 2))
        if first <= i < first + missing:
            scene.gaps.append((row, outline_of(BOX, width, height) + middle))
        else:
            stands, sunk = product, 0
            if scene.tray:
                sunk = round(rng.uniform(0, MAX_SUNK) * height)
                stands = replace(product, face=product.face.crop((0, 0, width, height - sunk)))
            for level in range(product.levels):
                up = level * np.array((rng.normal(0, 0.03 * width), sunk - height - 2))
                outline = place(rng, scene.canvas, stands, middle + up + (0, sunk / 2))
                scene.products.append((row, outline))
        if scene.tray:
            front = draw_front(rng, scene.tray, width, round(rng.uniform(0.3, 0.6) * height))
            scene.canvas.paste(front, (round(x), round(floor) - front.height), front)
        x += width + rng.uniform(1, 6)
    return x


def darken(canvas: Image.Image, top: float, bottom: float, start: int, end: int) -> None:
    """Lay a shadow over canvas rows top..bottom; its strength (0..255) goes from start to end."""
    ramp = np.linspace(start, end, max(1, round(bottom - top))).astype(np.uint8)[:, None]
    shadow = Image.fromarray(ramp.repeat(canvas.width, axis=1))
    canvas.paste((0, 0, 0), (0, round(top)), shadow)


def draw_rail(rng: Rng, canvas: Image.Image, top: float, deep: float, colour: Colour) -> None:
    """Draw the front edge of a shelf with its price tags; top and deep in pixels."""
    pen = ImageDraw.Draw(canvas)
    pen.rectangle((0, top, canvas.width, top + deep), colour)
    pen.line((0, top, canvas.width, top), (235, 235, 235), 3)
    pen.line((0, top + deep, canvas.width, top + deep), (30, 30, 30), 4)
    x, y = rng.uniform(0, 4) * deep, top + 0.25 * deep
    while x < canvas.width:
        end = x + rng.uniform(1.2, 1.8) * deep
        paper = (250, 220, 60) if rng.random() < 0.2 else (240, 240, 235)
        pen.rectangle((x, top + 0.12 * deep, end, top + 0.9 * deep), paper)
        draw_words(rng, pen, (x + 5, y, end - 5, y + 0.4 * deep), (40, 40, 45))
        x = end + rng.uniform(0.5, 5) * deep


def draw_row(
    rng: Rng, scene: Scene, row: int, top: float, pitch: float, steel: Colour, gap_rate: float
) -> None:
    """Fill one shelf from the back wall to the rail; top and pitch in pixels."""
    canvas, pen = scene.canvas, ImageDraw.Draw(scene.canvas)
    deep = 0.13 * pitch
    floor = top + pitch - deep
    pen.rectangle((0, top, canvas.width, floor), mix(steel, (90, 90, 90), 0.5))
    darken(canvas, top, floor, 190, 70)
    pen.rectangle((0, floor - 0.5 * deep, canvas.width, floor), steel)
    darken(canvas, floor - 0.5 * deep, floor, 150, 40)
    x, kind, base = -rng.uniform(0, pitch), BOX, pick_ink(rng)
    while x < canvas.width:
        if rng.random() < 0.6:  # else the brand's next product
            kinds = TRAY_KINDS if scene.tray else KINDS
            kind, base = kinds[rng.integers(len(kinds))], pick_ink(rng)
        product = pick_product(rng, kind, base, pitch - deep)
        x = draw_run(rng, scene, product, row, (x, floor - 0.12 * deep), gap_rate)
    darken(canvas, top, top + 0.3 * pitch, 150, 0)


def draw_scene(
    rng: Rng,
    size: tuple[int, int],
    head: float,
    foot: float,
    rows: int,
    gap_rate: float,
    tray: str | None,
) -> Scene:
    """Draw the flat shelf on a canvas; its rows fill head..foot (pixels)."""
    steel = pick_colour(rng, (0.0, 0.1), (0.05, 0.35) if tray else (0.7, 0.9))
    rail = steel if rng.random() < 0.7 else pick_colour(rng, (0.4, 0.9), (0.4, 0.8))
    scene = Scene(Image.new("RGB", size, pick_colour(rng, (0.0, 0.5), (0.5, 0.9))), tray)
    base = (0, foot, *size)
    ImageDraw.Draw(scene.canvas).rectangle(base, pick_colour(rng, (0.0, 0.2), (0.4, 0.7)))
    darken(scene.canvas, foot, foot + 0.02 * size[1], 160, 0)
    pitch = (foot - head) / max(rows, 1)
    for row in range(rows):
        top = head + row * pitch
        draw_row(rng, scene, row, top, pitch, steel, gap_rate)
        draw_rail(rng, scene.canvas, top + 0.87 * pitch, 0.13 * pitch, rail)
    return scene


def view_corners(rng: Rng, size: tuple[int, int], tilt: float, perspective: float) -> Floats:
    """Give the (4, 2) corners of what the camera sees, around its middle, in picture pixels."""
    unit = np.array(((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)))
    aside, up = perspective * rng.choice((-0.22, 0.22)), perspective * rng.uniform(-0.1, 0.1)
    seen: Floats = unit * (1 + unit[:, ::-1] * (up, aside)) * size
    return seen @ rotation(-tilt)


def homography(source: Floats, target: Floats) -> Floats:
    """Solve the (3, 3) homography that takes four points (4, 2) to four others."""
    lines, values = [], []
    for (x, y), (u, v) in zip(source.tolist(), target.tolist(), strict=True):
        lines += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return np.append(np.linalg.solve(np.array(lines), np.array(values)), 1.0).reshape(3, 3)


def visible_bounds(
    outlines: list[tuple[int, Floats]], to_picture: Floats, size: tuple[int, int]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Give clipped xyxy (n, 4) and row (n,) of the outlines that are mostly inside the picture."""
    xyxy, rows = [], []
    for row, outline in outlines:
        x, y, z = to_picture @ np.column_stack((outline, np.ones(len(outline)))).T
        whole = np.array((min(x / z), min(y / z), max(x / z), max(y / z)))
        seen = np.clip(whole, 0, (*size, *size))
        if np.prod(seen[2:] - seen[:2]) >= MIN_VISIBLE * np.prod(whole[2:] - whole[:2]):
            xyxy.append(seen)
            rows.append(row)
    return np.array(xyxy, dtype=np.float32).reshape(-1, 4), np.array(rows, dtype=np.int64)


def expose(rng: Rng, picture: Image.Image, noise: float, light: float) -> npt.NDArray[np.uint8]:
    """Make a photo (H, W, 3) of a clean picture: uneven light, blur, noise, halved chroma."""
    x, y = np.linspace(-1, 1, picture.width), np.linspace(-1, 1, picture.height)[:, None]
    angle = rng.uniform(0, 2 * np.pi)
    fall = 0.15 - 0.35 * (np.cos(angle) * x + np.sin(angle) * y) - 0.2 * (x**2 + y**2)
    blurred = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 0.9)))
    pixels = np.asarray(blurred) * (1 + light * fall)[..., None] * rng.uniform(0.95, 1.05, 3)
    pixels += rng.normal(0, noise, (*pixels.shape[:2], 1)) + rng.normal(0, noise / 2, pixels.shape)
    photo = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).convert("YCbCr")
    luma, *chroma = photo.split()
    sharp = luma.filter(ImageFilter.UnsharpMask(1.2, 60, 2))
    thin = [plane.reduce(2).resize(luma.size, Image.Resampling.BILINEAR) for plane in chroma]
    return np.array(Image.merge("YCbCr", (sharp, *thin)).convert("RGB"))


def render_shelf(
    seed: int,
    *,
    width: int = 960,  # pixels
    height: int = 1280,
    rows: int = 8,
    tilt: float = 0.0,  # degrees, up to 8
    perspective: float = 0.3,  # 0..1, how far the camera stands aside
    gap_rate: float = 0.08,  # 0..1, share of missing facings
    noise: float = 2.5,  # grey levels
    light: float = 0.4,  # 0..1, how uneven it is
    tray: str | None = None,  # everything stands in trays with such a front, one of TRAYS
) -> RenderedShelf:
    """Draw the shelf of a seed: the same seed and settings give the same picture and boxes."""
    rng = np.random.default_rng(seed)
    size, scale = (width, height), float(SUPERSAMPLE)
    corners = view_corners(rng, size, tilt, perspective)
    half = np.ceil(np.abs(corners).max(axis=0))  # the canvas holds all the camera sees
    canvas = (int(2 * scale * half[0]), int(2 * scale * half[1]))
    head, foot = scale * (half[1] + np.array((-0.485, 0.465)) * height)
    scene = draw_scene(rng, canvas, head, foot, rows, gap_rate, tray)
    frame = np.array(((0, 0), (width, 0), (width, height), (0, height)), dtype=np.float64)
    coefficients = homography(scale * frame, scale * (corners + half))
    big = scene.canvas.transform(
        (SUPERSAMPLE * width, SUPERSAMPLE * height),
        Image.Transform.PERSPECTIVE,
        coefficients.ravel()[:8].tolist(),
        Image.Resampling.BILINEAR,
    )
    image = expose(rng, big.reduce(SUPERSAMPLE), noise, light)
    to_picture = homography(scale * (corners + half), frame)
    xyxy, row = visible_bounds(scene.products, to_picture, size)
    gaps, gap_row = visible_bounds(scene.gaps, to_picture, size)
    return RenderedShelf(image=image, xyxy=xyxy, row=row, gaps=gaps, gap_row=gap_row)


def encode(shelf: RenderedShelf, *, turned: bool = False) -> bytes:
    """Encode the picture as JPEG; turned stores it sideways and says so in EXIF."""
    picture, exif, out = Image.fromarray(shelf.image), Image.Exif(), io.BytesIO()
    if turned:
        picture = picture.transpose(Image.Transpose.ROTATE_90)
        exif[EXIF_ORIENTATION] = 6  # "turn me clockwise"
    picture.save(out, "JPEG", quality=78, optimize=True, exif=exif)
    return out.getvalue()


def render_samples() -> dict[str, RenderedShelf]:
    """Draw the shelves of the sample bucket, by key."""
    wide = partial(render_shelf, width=1080, height=810)
    return {
        "store-17/aisle-4/full.jpg": wide(31, rows=6, gap_rate=0.0),
        "store-17/aisle-5/gaps.jpg": wide(27, rows=5, gap_rate=0.2),
        "store-17/aisle-6/portrait.jpg": render_shelf(4, width=780, height=1170),
        "store-17/aisle-7/turned-by-exif.jpg": render_shelf(20, width=810, height=1080, rows=7),
        "store-21/aisle-1/tilted shelf.jpg": wide(7, rows=6, tilt=5, perspective=0.6),
        "store-21/aisle-2/corrupt.jpg": render_shelf(6, width=800, height=600, rows=5),
    }


def write_samples(folder: Path) -> None:
    """Write the sample bucket below a folder, one picture sideways, one cut in the middle."""
    for key, shelf in render_samples().items():
        data = encode(shelf, turned=key.endswith("turned-by-exif.jpg"))
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data[: len(data) // 2] if key.endswith("corrupt.jpg") else data)


def render_judge() -> dict[str, RenderedShelf]:
    """Draw the shelves that judge a rollout, small, so that a ConfigMap holds them."""
    small = partial(render_shelf, width=480, height=640, rows=5, noise=1.5)
    return {
        "dense.jpg": small(1000, tilt=-2),
        "gaps.jpg": small(1001, gap_rate=0.2),
        "turned.jpg": small(1002, tilt=3),
    }


def write_judge(folder: Path) -> None:
    """Write those shelves and their YOLO labels into a folder, one picture sideways."""
    for name, shelf in render_judge().items():
        (folder / name).write_bytes(encode(shelf, turned=name == "turned.jpg"))
        (folder / name).with_suffix(".txt").write_text(yolo_labels(shelf))


def yolo_labels(shelf: RenderedShelf, *, gaps: bool = False) -> str:
    """Write boxes as YOLO lines: class, then middle and size as shares of the picture.

    Products are class 0; gaps are class 1 where they are asked for.
    """
    size = np.array(shelf.image.shape[1::-1])
    lines = []
    for label, xyxy in enumerate((shelf.xyxy, shelf.gaps) if gaps else (shelf.xyxy,)):
        low, high = xyxy[:, :2] / size, xyxy[:, 2:] / size
        for x, y, w, h in np.hstack(((low + high) / 2, high - low)).tolist():
            lines.append(f"{label} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n")
    return "".join(lines)


def write_dataset(folder: Path, count: int, seed: int, *, gaps: bool = False) -> None:
    """Write images/ and labels/ of count shelves below a folder, gaps as class 1 on request."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        rng = np.random.default_rng((seed, i))  # so that a longer run begins with the shorter one
        tilt, perspective, gap_rate = rng.uniform((-5, 0, 0), (5, 0.8, 0.35)).tolist()
        shelf = render_shelf(
            int(rng.integers(2**32)),
            rows=int(rng.integers(4, 10)),
            tilt=tilt,
            perspective=perspective,
            gap_rate=gap_rate,
            tray=TRAYS[i // TRAY_EVERY % len(TRAYS)] if i % TRAY_EVERY == 0 else None,
        )
        (folder / "images" / f"{i:06d}.jpg").write_bytes(encode(shelf))
        (folder / "labels" / f"{i:06d}.txt").write_text(yolo_labels(shelf, gaps=gaps))
        print(f"\r{i + 1}/{count} shelves", end="", flush=True)
    print()


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m model.render", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--output", type=Path, help="folder for a YOLO data set")
    where.add_argument("--samples", type=Path, help="folder for the sample bucket")
    where.add_argument("--judge", type=Path, help="folder of the pictures that judge a rollout")
    parser.add_argument("--count", type=at_least(1), default=100, help="shelves in the data set")
    parser.add_argument(
        "--seed", type=at_least(0), default=0, help="the same seed draws the same shelves"
    )
    options = parser.parse_args(arguments)
    try:
        if options.samples:
            write_samples(options.samples)
        elif options.judge:
            write_judge(options.judge)
        else:
            write_dataset(options.output, options.count, options.seed)
    except OSError as err:  # a folder that is a file, a full disk
        sys.exit(str(err))


if __name__ == "__main__":
    main()
