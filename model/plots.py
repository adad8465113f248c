"""Pictures of a model's quality: precision-recall curves and a sheet of photos with boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw
import PIL.ImageOps

from function.boxes import Floats

PAPER, INK, GRID = "white", "black", (225, 225, 225)
COLOURS = ((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189))
SIDE, MARGIN = 560, 60  # of the curves' square, pixels
TILE, TILES_A_ROW = 640, 3  # of the sheet


def draw_curves(curves: dict[str, npt.NDArray[np.float64]]) -> PIL.Image.Image:
    """Draw precision (101,) over recall 0 to 1, a coloured line a model."""
    picture = PIL.Image.new("RGB", (SIDE + 2 * MARGIN, SIDE + 2 * MARGIN), PAPER)
    pen = PIL.ImageDraw.Draw(picture)

    def at(recall: float, precision: float) -> tuple[float, float]:
        return MARGIN + recall * SIDE, MARGIN + (1 - precision) * SIDE

    for tick in np.linspace(0, 1, 11).tolist():
        pen.line((at(tick, 0), at(tick, 1)), GRID)
        pen.line((at(0, tick), at(1, tick)), GRID)
        pen.text((at(tick, 0)[0], at(0, 0)[1] + 8), f"{tick:.1f}", INK, anchor="mt")
        pen.text((at(0, 0)[0] - 8, at(0, tick)[1]), f"{tick:.1f}", INK, anchor="rm")
    pen.text((at(0.5, 0)[0], at(0, 0)[1] + 30), "recall", INK, anchor="mt")
    pen.text(at(0, 1.03), "precision at IoU 0.5", INK, anchor="ls")
    for index, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        points = [at(x, y) for x, y in zip(np.linspace(0, 1, len(curve)), curve, strict=True)]
        pen.line(points, colour, 3)
        pen.text(at(0.04, 0.04 + 0.035 * index), f"{name}  AP50 {curve.mean():.3f}", colour)
    return picture


def draw_sheet(photos: list[tuple[Path, Floats]]) -> PIL.Image.Image:
    """Lay photos out in a grid, each with its boxes (n, 4) in pixels."""
    rows = -(-len(photos) // TILES_A_ROW)
    sheet = PIL.Image.new("RGB", (TILE * min(len(photos), TILES_A_ROW), TILE * rows), PAPER)
    for index, (path, xyxy) in enumerate(photos):
        with PIL.Image.open(path) as file:
            picture = PIL.ImageOps.exif_transpose(file).convert("RGB")
        pen = PIL.ImageDraw.Draw(picture)
        for box in xyxy.tolist():
            pen.rectangle(box, outline=(0, 255, 120), width=max(1, max(picture.size) // 500))
        picture.thumbnail((TILE, TILE))
        PIL.ImageDraw.Draw(picture).text(
            (6, 6), f"{len(xyxy)} found", INK, stroke_width=2, stroke_fill=PAPER
        )
        sheet.paste(picture, (index % TILES_A_ROW * TILE, index // TILES_A_ROW * TILE))
    return sheet
