"""What the renderer promises: true boxes, the same picture for a seed, and the samples on disk."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from model.render import TRAYS, RenderedShelf, main, render_shelf

Boxes = npt.NDArray[np.float32]  # (n, 4) xyxy
SAMPLES = Path(__file__).parents[1] / "local" / "samples"
JUDGE = Path(__file__).parents[1] / "knative" / "rollout" / "judge"
VIEWS = [  # tilt in degrees, perspective 0..1
    pytest.param(0.0, 0.0, id="straight"),
    pytest.param(6.0, 0.0, id="tilted"),
    pytest.param(0.0, 1.0, id="from aside"),
    pytest.param(-8.0, 0.7, id="tilted and from aside"),
]


def small_shelf(
    seed: int = 3,
    *,
    rows: int = 4,
    tilt: float = 0.0,
    perspective: float = 0.3,
    gap_rate: float = 0.15,
    noise: float = 2.5,
) -> RenderedShelf:
    return render_shelf(
        seed,
        width=400,
        height=480,
        rows=rows,
        tilt=tilt,
        perspective=perspective,
        gap_rate=gap_rate,
        noise=noise,
    )


def intersection(a: Boxes, b: Boxes) -> npt.NDArray[np.float32]:
    """Give the shared areas (n, m) of boxes (n, 4) and (m, 4)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared: npt.NDArray[np.float32] = np.prod(np.clip(high - low, 0, None), axis=2)
    return shared


def area(xyxy: Boxes) -> npt.NDArray[np.float32]:
    areas: npt.NDArray[np.float32] = np.prod(xyxy[:, 2:] - xyxy[:, :2], axis=1)
    return areas


@pytest.mark.parametrize(
    ("rows", "gap_rate", "has_products", "has_gaps"),
    [
        pytest.param(0, 0.0, False, False, id="no rows"),
        pytest.param(4, 1.0, False, True, id="every product missing"),
        pytest.param(4, 0.0, True, False, id="full"),
        pytest.param(4, 0.3, True, True, id="some missing"),
    ],
)
def test_shapes_fit_whatever_stands_on_the_shelf(
    rows: int, gap_rate: float, has_products: bool, has_gaps: bool
) -> None:
    shelf = small_shelf(rows=rows, gap_rate=gap_rate)
    assert shelf.image.shape == (480, 400, 3)
    assert shelf.image.dtype == np.uint8
    for xyxy, row, some in (
        (shelf.xyxy, shelf.row, has_products),
        (shelf.gaps, shelf.gap_row, has_gaps),
    ):
        assert xyxy.shape == (len(row), 4)
        assert xyxy.dtype == np.float32
        assert bool(len(xyxy)) is some


def test_same_seed_gives_the_same_picture_and_boxes() -> None:
    first, again, other = small_shelf(5), small_shelf(5), small_shelf(6)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.xyxy, again.xyxy)
    np.testing.assert_array_equal(first.gaps, again.gaps)
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize(("tilt", "perspective"), VIEWS)
def test_boxes_lie_inside_the_picture(tilt: float, perspective: float) -> None:
    shelf = small_shelf(tilt=tilt, perspective=perspective)
    for xyxy in (shelf.xyxy, shelf.gaps):
        assert (xyxy >= 0).all()
        assert (xyxy <= (400, 480, 400, 480)).all()
        assert (area(xyxy) > 0).all()


def test_rows_count_from_top_to_bottom() -> None:
    shelf = small_shelf(perspective=0.0)
    bottoms = [shelf.xyxy[shelf.row == row, 3] for row in range(4)]
    for upper, lower in pairwise(bottoms):
        assert upper.max() < lower.min()


def test_every_row_of_a_tilted_shelf_falls_the_same_way() -> None:
    """A positive tilt turns the camera with the clock, so rows rise to the right."""
    shelf = small_shelf(tilt=6.0, perspective=0.0, gap_rate=0.0)
    for row in range(1, 3):
        left, _, _, bottom = shelf.xyxy[shelf.row == row].T
        assert np.polyfit(left, bottom, 1)[0] == pytest.approx(-np.tan(np.radians(6)), abs=0.03)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_gaps_do_not_overlap_products_of_their_row(seed: int) -> None:
    shelf = small_shelf(seed, perspective=0.0, gap_rate=0.3)
    same_row = shelf.gap_row[:, None] == shelf.row[None, :]
    shared = intersection(shelf.gaps, shelf.xyxy) * same_row
    assert len(shelf.gaps)
    # Packages stand a little turned, so a corner may reach a pixel into the gap beside it.
    assert (shared.max(axis=1) < 0.06 * area(shelf.gaps)).all()


@pytest.mark.parametrize("tray", TRAYS)
def test_a_tray_is_there_with_nothing_in_it(tray: str) -> None:
    """And what sinks into one ends at the floor, as the tray does."""
    shelf = render_shelf(
        3, width=640, height=640, rows=4, perspective=0.0, gap_rate=0.4, noise=0.0, tray=tray
    )

    def contrast(low: float, high: float) -> float:
        """Measure a band of the gaps, in shares of their height."""
        bands = [
            shelf.image[int(y0 + low * (y1 - y0)) : int(y0 + high * (y1 - y0)), int(x0) : int(x1)]
            for x0, y0, x1, y1 in shelf.gaps.tolist()
        ]
        return float(np.median([band.std() for band in bands]))

    assert contrast(0.6, 1) > 2 * contrast(0.1, 0.4)
    for row in range(4):
        floor = shelf.gaps[shelf.gap_row == row, 3].max()
        assert shelf.xyxy[shelf.row == row, 3].max() <= floor + 1


@pytest.mark.parametrize(("tilt", "perspective"), VIEWS)
def test_boxes_stay_around_their_products_in_every_view(tilt: float, perspective: float) -> None:
    """Print has edges and colours, the wall has neither: what is drawn must follow its box."""
    shelf = small_shelf(9, tilt=tilt, perspective=perspective, gap_rate=0.3, noise=0.0)

    def contrast(xyxy: Boxes) -> float:
        width, height = xyxy[2:] - xyxy[:2]
        inset = np.array((0.25 * width, 0.3 * height, -0.25 * width, -0.3 * height))
        left, top, right, bottom = (xyxy + inset).astype(int).tolist()
        return float(shelf.image[top : bottom + 1, left : right + 1].std(axis=(0, 1)).mean())

    products = np.array([contrast(xyxy) for xyxy in shelf.xyxy])
    gaps = np.array([contrast(xyxy) for xyxy in shelf.gaps])
    assert np.median(products) > 2.5 * np.median(gaps)
    assert np.percentile(products, 5) > np.median(gaps)


def test_dataset_labels_are_the_boxes_as_shares_of_the_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--output", str(tmp_path), "--count", "1", "--seed", "2"])
    (picture,) = (tmp_path / "images").iterdir()
    labels = np.loadtxt(tmp_path / "labels" / f"{picture.stem}.txt")
    assert (labels[:, 0] == 0).all()
    assert (labels[:, 1:3] - labels[:, 3:] / 2 > -1e-5).all()
    assert (labels[:, 1:3] + labels[:, 3:] / 2 < 1 + 1e-5).all()
    assert "1/1 shelves" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(("option", "folder"), [("--samples", SAMPLES), ("--judge", JUDGE)])
def test_pictures_on_disk_are_what_the_renderer_draws(
    tmp_path: Path, option: str, folder: Path
) -> None:
    main([option, str(tmp_path)])
    drawn = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.jpg")}
    assert drawn == {path.relative_to(folder) for path in folder.rglob("*.jpg")}
    for label in tmp_path.rglob("*.txt"):
        assert label.read_text() == (folder / label.relative_to(tmp_path)).read_text()
    for key in drawn:
        with Image.open(tmp_path / key) as fresh, Image.open(folder / key) as stored:
            assert fresh.size == stored.size
            assert fresh.getexif() == stored.getexif()
            if key.stem == "corrupt":
                continue
            difference = np.asarray(fresh, dtype=float) - np.asarray(stored, dtype=float)
            # JPEG bytes depend on the libjpeg, pixels hardly do.
            assert np.abs(difference).mean() < 1.0, key


def test_corrupt_sample_opens_but_cannot_be_read() -> None:
    with (
        Image.open(SAMPLES / "store-21/aisle-2/corrupt.jpg") as picture,
        pytest.raises(OSError, match="truncated"),
    ):
        picture.load()


def test_turned_sample_is_a_portrait_stored_sideways() -> None:
    with Image.open(SAMPLES / "store-17/aisle-7/turned-by-exif.jpg") as picture:
        assert picture.width > picture.height
        assert picture.getexif()[0x0112] == 6
