"""Pictures are found wherever they lie below a folder."""

from pathlib import Path

from function.folders import pictures_below


def test_linked_folders_are_looked_into_and_loops_end(tmp_path: Path) -> None:
    other, photos = tmp_path / "other", tmp_path / "photos"
    for folder in (other / "deep", photos / "own"):
        folder.mkdir(parents=True)
    for name in ("other/deep/a.JPG", "other/notes.txt", "photos/own/b.png", "photos/c.webp"):
        (tmp_path / name).touch()
    (photos / "linked").symlink_to(other)
    (photos / "d.jpg").symlink_to(other / "deep" / "a.JPG")
    (photos / "own" / "up").symlink_to(photos)
    (other / "back").symlink_to(photos)
    found = [path.relative_to(photos).as_posix() for path in pictures_below(photos)]
    assert found == ["c.webp", "d.jpg", "linked/deep/a.JPG", "own/b.png"]
    (tmp_path / "all").symlink_to(photos)
    assert len(pictures_below(tmp_path / "all")) == len(found)


def test_what_is_no_folder_holds_none(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    assert pictures_below(tmp_path / "a.jpg") == pictures_below(tmp_path / "nowhere") == []


def test_a_link_that_leads_nowhere_is_found_so_that_reading_names_it(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "self.jpg").symlink_to(tmp_path / "self.jpg")
    assert [path.name for path in pictures_below(tmp_path)] == ["gone.jpg", "self.jpg"]
