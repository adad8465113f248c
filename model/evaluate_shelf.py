"""Measures the shelf audit: gaps on labelled photos, rows and gaps on drawn shelves, and scenes.

A gap is found when a reported one covers it with IoU 0.3. Labels that touch within a row are joined
before: people mark an empty stretch once or once a facing, and the audit reports it once.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from PIL import ImageDraw

from function.audit import audit_image
from function.boxes import Floats, Ints, box_area, match_one_to_one, pairwise_iou, shared_area
from function.config import Config
from function.detections import Detections, Thresholds
from function.detector import Detector
from function.errors import ModelError
from function.image import Image
from function.metrics import Metrics
from function.result import Result
from function.shelf import ShelfAudit, audit_shelf
from model.labelled import read_gaps
from model.options import at_least
from model.photos import DatasetError, naming, read_photo
from model.render import RenderedShelf, render_shelf

GAP_IOU = 0.3
PRODUCT_IOU = 0.5
# Labels are joined across less than a third of the narrower one, when half as high in common.
JOIN_SPACE, JOIN_HEIGHT = 0.3, 0.5
WORST = 6  # pictures
FALSE_SHARE, HALF = 0.25, 0.5


@dataclass
class Score:
    """Counts of matches between what was reported and what is true."""

    matched: int = 0
    reported: int = 0
    true: int = 0

    def add(self, matched: int, reported: int, true: int) -> None:
        """Add one picture's counts."""
        self.matched, self.reported, self.true = (
            self.matched + matched,
            self.reported + reported,
            self.true + true,
        )

    @property
    def precision(self) -> float:
        """Share of the reported that is true; 1 where nothing was reported."""
        return self.matched / self.reported if self.reported else 1.0

    @property
    def recall(self) -> float:
        """Share of the true that was reported; 1 where nothing is true."""
        return self.matched / self.true if self.true else 1.0

    @property
    def f1(self) -> float:
        """Twice the matched over all reported and true."""
        total = self.reported + self.true
        return 2 * self.matched / total if total else 1.0

    def __str__(self) -> str:
        return (
            f"precision {self.precision:.3f}  recall {self.recall:.3f}  F1 {self.f1:.3f}"
            f"  ({self.matched} of {self.true}, {self.reported} reported)"
        )


@dataclass
class Report:
    """The scores of one set of pictures, and the worst of them."""

    gaps: Score = field(default_factory=Score)
    gaps_as_labelled: Score = field(default_factory=Score)
    rows: Score = field(default_factory=Score)  # products that stand on the row they stand on
    worst: list[tuple[int, str, PILImage.Image]] = field(default_factory=list)

    def keep(self, wrong: int, name: str, draw: Callable[[], PILImage.Image]) -> None:
        """Keep a picture while it is among the worst."""
        if len(self.worst) < WORST or wrong > self.worst[-1][0]:
            self.worst.append((wrong, name, draw()))
            self.worst = sorted(self.worst, key=lambda item: -item[0])[:WORST]


def join_touching(gaps: Floats) -> Floats:
    """Join boxes (n, 4) that lie side by side in a row, (m, 4)."""
    joined: list[Floats] = []
    for gap in gaps[np.argsort(gaps[:, 0], kind="stable")]:
        for index, other in enumerate(joined):
            common = min(gap[3], other[3]) - max(gap[1], other[1])
            high = min(gap[3] - gap[1], other[3] - other[1])
            wide = min(gap[2] - gap[0], other[2] - other[0])
            if common >= JOIN_HEIGHT * high and gap[0] - other[2] <= JOIN_SPACE * wide:
                low = np.minimum(gap[:2], other[:2])
                joined[index] = np.concatenate((low, np.maximum(gap[2:], other[2:])))
                break
        else:
            joined.append(gap)
    return np.array(joined, np.float32).reshape(-1, 4)


def rightly_rowed(true_row: Ints, row: Ints) -> int:
    """Count products whose row is their true one; rows are paired by what they share most."""
    shared = np.zeros((true_row.max(initial=-1) + 1, row.max(initial=-1) + 1), np.int64)
    np.add.at(shared, (true_row, row), 1)
    right = 0
    while shared.max(initial=0):
        i, j = divmod(int(shared.argmax()), shared.shape[1])
        right += int(shared[i, j])
        shared[i], shared[:, j] = 0, 0
    return right


def gap_boxes(audit: ShelfAudit) -> Floats:
    """Collect an audit's gaps, (n, 4)."""
    return np.array([gap.xyxy for gap in audit.gaps], np.float32).reshape(-1, 4)


def photos(folder: Path, part: slice) -> Iterator[tuple[str, Image, Floats]]:
    """Read labelled photos of `model.labelled.read_gaps` with their gaps (m, 4), in pixels.

    Raises `DatasetError`.
    """
    chosen = read_gaps(folder)[part]
    if not chosen:
        msg = f"{folder} has no photos in that part"
        raise DatasetError(msg)
    for photo in chosen:
        image = read_photo(photo.path)
        yield photo.path.stem, image, photo.xyxy(image).astype(np.float32)


def drawn(count: int, seed: int) -> Iterator[tuple[str, RenderedShelf]]:
    """Draw shelves with missing products, tilted up to 8 degrees, seen from aside."""
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        tilt, perspective, gap_rate = rng.uniform((-8, 0, 0), (8, 1, 0.25)).tolist()
        rows = int(rng.integers(3, 10))
        yield (
            f"{i:04d}",
            render_shelf(
                int(rng.integers(2**32)),
                width=720,
                height=960,
                rows=rows,
                tilt=tilt,
                perspective=perspective,
                gap_rate=gap_rate,
            ),
        )


def looked_at(image: Image, detector: Detector, thresholds: Thresholds) -> Detections:
    """Find what the service finds, with its second look; the image is decoded whole."""
    first = detector.detect(image, thresholds)
    second = detector.plan(image, thresholds.detail, first)
    return detector.look_again(image, second, first, thresholds)


def score_photos(
    pictures: Iterable[tuple[str, Image, Floats]], detector: Detector, thresholds: Thresholds
) -> Report:
    """Compare the gaps of the audit with those that people marked."""
    report = Report()
    for name, image, labels in pictures:
        detections = looked_at(image, detector, thresholds)
        reported = gap_boxes(audit_shelf(detections, image.width, image.height))
        report.gaps_as_labelled.add(
            len(match_one_to_one(pairwise_iou(reported, labels), GAP_IOU)),
            len(reported),
            len(labels),
        )
        truth = join_touching(labels)
        _score_gaps(report, name, image.pixels, detections, reported, truth)
        print(f"\r{name}", end="", flush=True)
    print("\r", end="")
    return report


def score_drawn(
    shelves: Iterable[tuple[str, RenderedShelf]], detect: Callable[[RenderedShelf], Detections]
) -> Report:
    """Compare rows and gaps with what was drawn; products that were not detected count as wrong."""
    report = Report()
    for name, shelf in shelves:
        detections = detect(shelf)
        height, width = shelf.image.shape[:2]
        audit = audit_shelf(detections, width, height)
        reported = gap_boxes(audit)
        matches = np.array(
            match_one_to_one(pairwise_iou(detections.xyxy, shelf.xyxy), PRODUCT_IOU), np.int64
        ).reshape(-1, 2)
        right = rightly_rowed(shelf.row[matches[:, 1]], audit.row[matches[:, 0]])
        report.rows.add(right, len(matches), len(shelf.xyxy))
        _score_gaps(report, name, shelf.image, detections, reported, join_touching(shelf.gaps))
        print(f"\r{name}", end="", flush=True)
    print("\r", end="")
    return report


def _score_gaps(
    report: Report,
    name: str,
    pixels: npt.NDArray[np.uint8],
    detections: Detections,
    reported: Floats,
    truth: Floats,
) -> None:
    matches = match_one_to_one(pairwise_iou(reported, truth), GAP_IOU)
    report.gaps.add(len(matches), len(reported), len(truth))
    wrong = len(reported) + len(truth) - 2 * len(matches)
    report.keep(wrong, name, lambda: draw(pixels, detections.xyxy, reported, truth))


def draw(
    pixels: npt.NDArray[np.uint8], products: Floats, reported: Floats, truth: Floats
) -> PILImage.Image:
    """Draw products in blue, reported gaps in red, true gaps in green."""
    picture = PILImage.fromarray(pixels)
    pen = ImageDraw.Draw(picture)
    layers = ((products, (70, 150, 255), 1), (truth, (0, 220, 0), 4), (reported, (255, 30, 30), 2))
    for boxes, colour, width in layers:
        for box in boxes.tolist():
            pen.rectangle(box, outline=colour, width=width)
    return picture


def true_detections(shelf: RenderedShelf) -> Detections:
    """Take the drawn boxes for detections."""
    count = len(shelf.xyxy)
    return Detections(
        xyxy=shelf.xyxy, confidence=np.ones(count, np.float32), class_id=np.zeros(count, np.int64)
    )


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a person sees on a photo."""

    image: str
    boards: int
    fill: float | None  # share of the boards' width that is taken; None where it says nothing
    empty: Floats  # (e, 4) stretches in shares of width and height, roughly
    products: int | None  # where they could be counted


@dataclass(frozen=True, kw_only=True)
class SceneScore:
    """What the audit says of a scene, against what a person sees."""

    scene: Scene
    rows: int
    fill: float | None
    covered: list[float]  # of each empty stretch, the share of its width that gaps take
    false_gaps: int  # gaps that share a quarter of themselves with no empty stretch
    products: int


SCENE_COLUMNS = (
    f"{'scene':<18} {'boards':>6} {'rows':>5} {'fill':>5} {'found':>6} {'empty':>6} {'covered':>8}"
    f" {'false gaps':>11} {'products':>9} {'found':>6}"
)


def read_scenes(folder: Path) -> list[Scene]:
    """Read notes.json, a list of scenes as a person sees them. Raises `DatasetError`."""
    notes = folder / "notes.json"
    try:
        return [
            Scene(
                image=str(note["image"]),
                boards=int(note["boards"]),
                fill=None if note["fill"] is None else float(note["fill"]),
                empty=np.array(note["empty"], np.float32).reshape(-1, 4),
                products=None if note["products_by_eye"] is None else int(note["products_by_eye"]),
            )
            for note in json.loads(notes.read_text())
        ]
    except (OSError, ValueError, KeyError, TypeError) as err:
        msg = f"{notes} is not a list of scenes: {type(err).__name__} {err}"
        raise DatasetError(msg) from err


def score_scene(scene: Scene, result: Result) -> SceneScore:
    """Compare what the service answers with what a person sees."""
    size = np.array([result["image"]["width"], result["image"]["height"]] * 2, np.float32)
    boxes = np.array([gap["xyxy"] for gap in result["gaps"]], np.float32).reshape(-1, 4)
    gaps: Floats = np.asarray(boxes / size, np.float32)
    own = _shares(gaps, scene.empty)
    return SceneScore(
        scene=scene,
        rows=len(result["rows"]),
        fill=result["fill_rate"],
        covered=[_covered(stretch, gaps) for stretch in scene.empty.tolist()],
        false_gaps=int((own.max(axis=1, initial=0) < FALSE_SHARE).sum()),
        products=result["count"],
    )


def _shares(boxes: Floats, others: Floats) -> Floats:
    """Give the share of each box (n, 4) that each of others (m, 4) takes, (n, m)."""
    return np.asarray(shared_area(boxes[:, None], others) / box_area(boxes)[:, None])


def _covered(stretch: list[float], gaps: Floats) -> float:
    """Give the share of a stretch's width that gaps of its height take together."""
    left, top, right, bottom = stretch
    columns = np.linspace(left, right, 200)
    taken = np.zeros(len(columns), np.bool_)
    for low, head, high, foot in gaps.tolist():
        if min(foot, bottom) - max(head, top) >= JOIN_HEIGHT * min(foot - head, bottom - top):
            taken |= (columns >= low) & (columns <= high)
    return float(taken.mean())


def scene_row(score: SceneScore) -> str:
    """Format a scene's line of the table."""
    scene = score.scene
    fill, seen = (f"{of * 100:.0f} %" if of is not None else "" for of in (scene.fill, score.fill))
    covered = sum(share >= HALF for share in score.covered)
    return (
        f"{scene.image:<18} {scene.boards:>6} {score.rows:>5} {fill:>5} {seen:>6} "
        f"{len(scene.empty):>6} {covered:>8} {score.false_gaps:>11} "
        f"{scene.products or '':>9} {score.products:>6}"
    )


def _part(text: str) -> slice:
    """Read "80:120" as Python does."""
    first, last = text.split(":")
    return slice(int(first) if first else None, int(last) if last else None)


def run(options: argparse.Namespace) -> None:
    """Score what was asked for, and print it. Raises `DatasetError` and `ModelError`."""
    if options.pictures:
        with naming(options.pictures):
            options.pictures.mkdir(parents=True, exist_ok=True)
    detector, thresholds = Detector.load(options.model), Thresholds()
    detector.warm_up()

    def detect(shelf: RenderedShelf) -> Detections:
        return looked_at(Image.of(shelf.image), detector, thresholds)

    reports: dict[str, Report] = {}
    if options.photos:
        pictures = photos(options.photos, options.part)
        reports["photos"] = report = score_photos(pictures, detector, thresholds)
        print(f"photos, gaps joined       {report.gaps}")
        print(f"photos, gaps as labelled  {report.gaps_as_labelled}")
    if options.scenes:
        print(SCENE_COLUMNS)
        metrics = Metrics()
        for scene in read_scenes(options.scenes):
            path = options.scenes / scene.image
            with naming(path):
                result = audit_image(path.read_bytes(), detector, thresholds, metrics)
            print(scene_row(score_scene(scene, result)), flush=True)
    if options.drawn:
        for name, way in (("true boxes", true_detections), ("model's boxes", detect)):
            reports[name] = report = score_drawn(drawn(options.drawn, options.seed), way)
            right, true = report.rows.matched, report.rows.true
            print(f"drawn, {name}: rows {right / max(true, 1):.4f} of {true} products")
            print(f"drawn, {name}: gaps {report.gaps}")
    if options.pictures:
        for kind, report in reports.items():
            for wrong, name, picture in report.worst:
                picture.save(options.pictures / f"{kind.split()[0]}-{wrong:02d}-{name}.png")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m model.evaluate_shelf", description=__doc__)
    parser.add_argument("--model", type=Path, default=Config().model_path)
    parser.add_argument("--photos", type=Path, help="folder with images/ and labels.json")
    parser.add_argument(
        "--part", type=_part, default=slice(None), help="of the photos, e.g. 80:120"
    )
    parser.add_argument("--scenes", type=Path, help="folder with photos and notes.json")
    parser.add_argument("--drawn", type=at_least(0), default=0, help="how many shelves to draw")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of the drawn shelves")
    parser.add_argument("--pictures", type=Path, help="folder for the worst cases")
    options = parser.parse_args(arguments)
    if not (options.photos or options.scenes or options.drawn):
        parser.error("one of --photos, --scenes and --drawn must be given, got none")
    try:
        run(options)
    except (DatasetError, ModelError) as err:
        sys.exit(str(err))


if __name__ == "__main__":
    main()
