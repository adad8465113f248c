"""The pictures that all contenders see: drawn shelves, as JPEGs of three sizes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import PIL.Image

from model.render import render_shelf

# 640 px is what benchmarks of YOLO take, 2 MP what a fixed camera sends, 12 MP a phone.
SIZES = {"640 px": (640, 480), "2 MP": (1632, 1224), "12 MP": (4032, 3024)}
DRAWN = (1632, 1224)  # larger ones are enlarged from it: drawing 12 MP takes minutes and 2 GB
SEEDS = (31, 27, 7)
QUALITY = 90
SENSOR_NOISE = 3.0  # grey levels; a 12 MP picture then has a phone's 4 MB


def draw_pictures(folder: Path) -> dict[str, list[Path]]:
    """Draw the pictures of each size, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {
        size: [folder / f"{size.replace(' ', '')}-{seed}.jpg" for seed in SEEDS] for size in SIZES
    }
    for index, seed in enumerate(SEEDS):
        missing = [size for size in SIZES if not paths[size][index].exists()]
        if missing:
            width, height = DRAWN
            shelf = render_shelf(seed, width=width, height=height, rows=6, gap_rate=0.1)
            for size in missing:
                paths[size][index].write_bytes(_jpeg(shelf.image, SIZES[size], seed))
    return paths


def _jpeg(pixels: np.ndarray, size: tuple[int, int], seed: int) -> bytes:
    """Resize a drawing and add noise, so that it is as hard to decode as a photo of its size."""
    resized = PIL.Image.fromarray(pixels).resize(size, PIL.Image.Resampling.LANCZOS)
    noise = np.random.default_rng(seed).normal(0, SENSOR_NOISE, (size[1], size[0], 1))
    noisy = (np.asarray(resized, np.float32) + noise.astype(np.float32)).round()
    file = io.BytesIO()
    PIL.Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
