"""How truly a shelf is watched: `python -m bench.watch PHOTOS [--views N] [--by-hand]`

Each photo is a view. A camera takes eighteen photos of its shelf, a quarter of an hour apart: its
light, noise and sharpness differ, and it is nudged a little, or held by hand. On the seventh to
twelfth two facings are sold, painted over with the wall behind; nothing else ever changes. Every
other gap that opens later, and every one that is told to be filled, is therefore wrong.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from bench.monitor import audited
from bench.results import Part, table
from function.audit import audit_image
from function.boxes import box_area, shared_area
from function.config import Config
from function.detections import Thresholds
from function.detector import Detector
from function.errors import ModelError
from function.metrics import Metrics
from function.result import Result
from local.day import QUARTER, painted_over
from model.options import at_least
from model.photos import DatasetError, find_photos, naming, progress, read_photo
from monitor.fold import FULL_SCALE, Audit, Box, Rules, State, step
from monitor.intake import read_audit
from monitor.register import View

PHOTOS, SOLD = 18, range(6, 12)
# Shares of the sides, of the size, and degrees: a camera on a shelf opposite, and one held by hand.
FIXED, BY_HAND = (0.004, 0.0, 0.05), (0.015, 0.03, 0.25)
MARGIN = 0.04  # of the photo, for the nudge and the turn
SURE, ROW = 0.8, 6  # what is sold was seen as surely, in a row of as many
SAME = 0.3  # of the smaller box


@dataclass
class Score:
    """What the monitor told of all views."""

    views: int = 0
    gaps: float = 0.0  # a photo
    stood: int = 0  # open after the first two photos
    opened: int = 0  # later, elsewhere than where was sold
    filled: int = 0  # elsewhere
    moved: int = 0
    sold: int = 0
    after_sold: list[int] = field(default_factory=list)  # photos until it was open
    refilled: int = 0  # of the sold that were open
    after_refilled: list[int] = field(default_factory=list)  # photos until it was closed


def photos_of(picture: Image.Image, sold: Box | None, by_hand: bool, seed: int) -> Iterator[bytes]:
    """Take a view's photos."""
    empty = painted_over(picture, sold) if sold else picture
    for index in range(PHOTOS):
        rng = np.random.default_rng((seed, index))
        yield taken(empty if index in SOLD else picture, by_hand, rng)


def taken(picture: Image.Image, by_hand: bool, rng: np.random.Generator) -> bytes:
    """Take one photo, a JPEG."""
    nudge, zoom, turn = BY_HAND if by_hand else FIXED
    width, height = picture.size
    share = (1 - MARGIN) / (1 + rng.uniform(0, zoom))
    left, top = (1 - share) / 2 + rng.uniform(-nudge, nudge, 2)
    turned = picture.rotate(rng.normal(0, turn), resample=Image.Resampling.BICUBIC)
    part = (left * width, top * height, (left + share) * width, (top + share) * height)
    seen = turned.crop(tuple(round(edge) for edge in part))
    seen = ImageEnhance.Brightness(seen).enhance(rng.uniform(0.8, 1.15))
    seen = ImageEnhance.Contrast(seen).enhance(rng.uniform(0.9, 1.1))
    if rng.random() < 0.3:
        seen = seen.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8) * width / 640))
    grain = rng.normal(0, rng.uniform(0, 4), (seen.height, seen.width, 1))
    noisy = np.clip(np.asarray(seen, np.float32) + grain, 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(noisy).save(out, "JPEG", quality=int(rng.integers(60, 92)))
    return out.getvalue()


def to_sell(result: Result, seed: int) -> Box | None:
    """Choose two facings beside each other in the middle of a row, in pixels."""
    rows: dict[int, list[list[float]]] = {}
    for found in result["detections"]:
        if found["confidence"] >= SURE and found["row"] is not None:
            rows.setdefault(found["row"], []).append(found["xyxy"])
    pairs = []
    for row in rows.values():
        row.sort()
        if len(row) >= ROW:
            pairs += [(a, b) for a, b in pairwise(row[2:-2]) if b[0] - a[2] < (a[2] - a[0]) / 4]
    if not pairs:
        return None
    first, second = pairs[np.random.default_rng(seed).integers(len(pairs))]
    both = np.array((first, second))
    (left, top), (right, bottom) = (
        both[:, :2].min(axis=0).tolist(),
        both[:, 2:].max(axis=0).tolist(),
    )
    return round(left), round(top), round(right), round(bottom)


def as_audit(result: Result, index: int) -> Audit:
    """Read a result as the monitor does."""
    time = datetime(2026, 1, 5, 8, tzinfo=UTC) + QUARTER * index
    event = audited(f"{index:032x}", f"view/{index:02d}.jpg", time, dict(result))
    return read_audit(event, dict(result), View(folder="view")).audit


def watch(score: Score, audits: list[Audit], sold: Box | None, rules: Rules) -> None:
    """Fold one view's audits, and add what was told of it."""
    score.views += 1
    score.gaps += sum(len(audit.gaps) for audit in audits) / len(audits)
    state, known, was_open = State(view="view"), set[tuple[int, Box]](), list[bool]()
    for index, audit in enumerate(audits):
        state, closed = step(state, audit, rules)
        tracks = [track for track in state.tracks if track.open]
        for track in tracks:
            name = (track.opened, track.gap.box)
            if name not in known and not _same(track.gap.box, sold):
                score.stood += index == 1
                score.opened += index > 1
            known.add(name)
        for episode in closed:
            if not _same(episode.gap.box, sold):
                score.filled += episode.ended == "filled"
                score.moved += episode.ended == "moved"
        was_open.append(any(_same(track.box, sold) for track in tracks))
    if sold and not any(was_open[: SOLD.start]):
        score.sold += 1
        if any(was_open[SOLD.start : SOLD.stop]):
            score.after_sold.append(was_open.index(True) - SOLD.start + 1)
        if was_open[SOLD.stop - 1]:
            score.refilled += 1
            if not all(was_open[SOLD.stop :]):
                score.after_refilled.append(was_open[SOLD.stop :].index(False) + 1)


def _same(box: Box, sold: Box | None) -> bool:
    if sold is None:
        return False
    one, other = np.array(box, np.float64), np.array(sold, np.float64)
    least = min(float(box_area(one)), float(box_area(other)))
    return float(shared_area(one, other)) >= SAME * least


def in_frame(box: Box, size: tuple[int, int]) -> Box:
    """Give a box of the picture in 65535ths of a photo of it that was not nudged."""
    sides = np.array(size * 2)
    shares = (np.array(box) / sides - MARGIN / 2) / (1 - MARGIN)
    left, top, right, bottom = np.round(np.clip(shares, 0, 1) * FULL_SCALE).astype(int).tolist()
    return left, top, right, bottom


def rows_of(score: Score) -> list[list[object]]:
    """Write the table."""

    def by(photos: list[int], most: int, of: int) -> str:
        return f"{sum(count <= most for count in photos) / max(of, 1):.0%}"

    views = max(score.views, 1)
    return [
        ["gaps a photo", f"{score.gaps / views:.1f}"],
        ["of them open after two photos", f"{score.stood / views:.1f}"],
        ["opened later, though nothing was sold", f"{score.opened / views:.2f}"],
        ["told as filled, though nothing was", f"{score.filled / views:.2f}"],
        ["told as moved, though the camera was not", f"{score.moved / views:.2f}"],
        ["sold: open with the second photo", by(score.after_sold, 2, score.sold)],
        ["sold: with the third", by(score.after_sold, 3, score.sold)],
        ["refilled: closed with the second photo", by(score.after_refilled, 2, score.refilled)],
        ["refilled: with the third", by(score.after_refilled, 3, score.refilled)],
    ]


def run(options: argparse.Namespace) -> None:
    """Watch each view. Raises `DatasetError` and `ModelError`."""
    detector, thresholds, metrics = Detector.load(options.model), Thresholds(), Metrics()
    detector.warm_up()
    score = Score()
    found = find_photos(options.photos, options.views)
    for seed, path in enumerate(progress(found, "watched")):
        with naming(path):
            picture = read_photo(path).picture  # turned as the boxes are
            first = audit_image(path.read_bytes(), detector, thresholds, metrics)
        sold = to_sell(first, seed)
        taken_photos = photos_of(picture, sold, options.by_hand, seed)
        results = [audit_image(data, detector, thresholds, metrics) for data in taken_photos]
        audits = [as_audit(result, index) for index, result in enumerate(results)]
        watch(score, audits, in_frame(sold, picture.size) if sold else None, Rules())
    held = "by hand" if options.by_hand else "fixed"
    name = f"watch-{held.replace(' ', '-')}"
    part = Part(name=name, folder=options.output, full=options.views is None)
    head = ("a view of eighteen photos", held)
    part.write(asdict(score), table(head, rows_of(score)))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.watch", description=__doc__)
    parser.add_argument("photos", type=Path, help="folder of photos, each of another shelf")
    parser.add_argument("--views", type=at_least(1), help="how many of them (all)")
    parser.add_argument("--by-hand", action="store_true", help="no fixed camera")
    parser.add_argument("--model", type=Path, default=Config().model_path)
    parser.add_argument("--output", type=Path, default=Path("build/bench"), help="(%(default)s)")
    try:
        run(parser.parse_args(arguments))
    except (DatasetError, ModelError) as err:
        sys.exit(str(err))


if __name__ == "__main__":
    main()
