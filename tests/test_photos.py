"""Photos and labels on disk."""

from pathlib import Path

import pytest

from model.photos import DatasetError, find_photos, label_path, progress, read_labels, read_photo


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photo's path whose label file does not exist yet."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    return tmp_path / "images" / "a.jpg"


@pytest.mark.parametrize(("count", "chosen"), [(None, 6), (1, [0]), (2, [0, 3]), (4, [0, 1, 3, 4])])
def test_photos_are_spread_evenly(
    tmp_path: Path, count: int | None, chosen: list[int] | int
) -> None:
    for index in range(6):
        (tmp_path / f"{index}.png").touch()
    (tmp_path / "7.txt").touch()
    (tmp_path / "8.png").mkdir()
    expected = list(range(chosen)) if isinstance(chosen, int) else chosen
    assert [int(photo.stem) for photo in find_photos(tmp_path, count)] == expected


def test_more_photos_than_there_are_gives_all(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    assert find_photos(tmp_path, 9) == [tmp_path / "a.jpg"]


def test_a_folder_without_photos_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=f"{tmp_path} holds no photos"):
        find_photos(tmp_path)


@pytest.mark.parametrize(
    ("photo", "label"),
    [
        ("images/val/a.jpg", "labels/val/a.txt"),
        ("images/of/images/b.c.png", "images/of/labels/b.c.txt"),
        ("photos/a.jpg", "photos/a.txt"),
    ],
)
def test_labels_lie_where_ultralytics_looks(photo: str, label: str) -> None:
    assert label_path(Path(photo)) == Path(label)


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        (None, 0),
        ("", 0),
        ("0 .5 .5 .1 .1", 1),
        ("0 .5 .5 .1 .1\n\n1 .2 .2 .1 .1\n", 2),
        ("\ufeff0 .5 .5 .1 .1\r\n0 .2 .2 .1 .1\r\n", 2),  # of Windows
        ("0 1.005 -.005 1.005 .1", 1),  # what tools overshoot
    ],
)
def test_labels_are_a_line_a_box(photo: Path, text: str | None, boxes: int) -> None:
    if text is not None:
        label_path(photo).write_bytes(text.encode())
    assert read_labels(photo).shape == (boxes, 5)


@pytest.mark.parametrize(
    "text",
    [
        "0 .5 .5 .1",
        "0 .5 .5 .1 .1 .9",
        "a b c d e",
        "0,.5,.5,.1,.1",
        "0 .1 .1 .2 .1 .2 .2 .1 .2",  # a polygon
        "0 512 300 40 60",  # pixels
        "0 .5 .5 1.2 .1",
        "0 .5 .5 -.1 -.1",
        "0 nan .5 .1 .1",
        "0 .5 .5 inf .1",
        "-1 .5 .5 .1 .1",
        "0.7 .5 .5 .1 .1",
        "nan .5 .5 .1 .1",
    ],
)
def test_lines_that_are_no_boxes_are_named(photo: Path, text: str) -> None:
    label_path(photo).write_text(f"0 .5 .5 .1 .1\n{text}\n")
    with pytest.raises(DatasetError, match="class cx cy w h") as caught:
        read_labels(photo)
    assert str(caught.value).startswith(f"line 2 of {label_path(photo)} must be ")
    assert f"got {text!r}" in str(caught.value)


def test_labels_in_another_encoding_are_named(photo: Path) -> None:
    label_path(photo).write_text("0 .5 .5 .1 .1", encoding="utf-16")
    with pytest.raises(DatasetError, match=f"{label_path(photo)} must be text in UTF-8"):
        read_labels(photo)


def test_progress_in_a_log_takes_ten_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(range(50), "photo")) == list(range(50))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[-1] == "photo 50/50"


def test_a_photo_that_the_service_refuses_is_named(photo: Path) -> None:
    photo.write_bytes(b"not a photo")
    with pytest.raises(DatasetError, match=f"{photo}: The image must be one of JPEG"):
        read_photo(photo, (640, 640))
