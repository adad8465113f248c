"""Audit photos without a server: products, rows, gaps and fill rate of each.

With --check, look at what the service of these settings would need, and begin nothing.

Prints a table, or with --json a line of JSON a photo, or with --csv a line a gap and a product. The
settings of the function hold here too: SHELFWATCH_MODEL, SHELFWATCH_CONFIDENCE and the others.
Exit code 1 where a photo was refused: it is named on stderr, and the others go on.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# ONNX Runtime 1.31 reports home unless told not to before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from events.checks import run_checks
from events.settings import SettingError
from function.audit import audit_image
from function.batch import Outcome
from function.config import Config
from function.container import SUFFIXES
from function.detections import Thresholds
from function.detector import Detector
from function.errors import ImageError, ImageGone, ModelError, RequestError
from function.folders import pictures_below
from function.image import MAX_IMAGE_BYTES, read_header
from function.inputs import JPEG
from function.listing import (
    CSV_HEADER,
    csv_lines,
    printable,
    table_head,
    table_line,
    table_notes,
)
from function.metrics import Metrics
from function.parameters import choose_thresholds
from function.reference import MAX_REFERENCE_BYTES, Reference, parse_reference
from function.render import draw_audit, encode
from function.result import Result
from function.service_checks import service_checks
from function.spreadsheet import csv_text

REFUSED = 1
FAILED = 1
MISUSED = 2  # as argparse ends
INTERRUPTED = 130  # SIGINT, as shells say it
BAR = 24  # columns
EXAMPLES = """examples:
  python -m function shelf.jpg
  python -m function photos/ --csv > shelves.csv
  python -m function photos/ --json --pictures drawn/ | jq .result.count
  python -m function evening.jpg --reference morning.json
  EVENTS_BUCKETS=shelves python -m function --check
"""


@dataclass(frozen=True)
class Photo:
    """A file to audit, and what it is called in the output."""

    path: Path
    name: str


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What is the same for all photos of a run."""

    detector: Detector
    thresholds: Thresholds
    metrics: Metrics
    reference: Reference | None
    pictures: Path | None

    def run(self, photo: Photo) -> Result:
        """Audit one photo, and draw it where that is asked for. Raises `ShelfWatchError`."""
        data = read_bytes(photo.path)
        result = audit_image(
            data, self.detector, self.thresholds, self.metrics, reference=self.reference
        )
        if self.pictures:
            drawn = self.pictures / f"{photo.name}.boxes.jpg"
            drawn.parent.mkdir(parents=True, exist_ok=True)
            drawn.write_bytes(encode(draw_audit(read_header(data).decode().picture, result), JPEG))
        return result


def main(arguments: list[str] | None = None) -> int:
    """Audit the photos that the command line names; return the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.check:
        return 0 if run_checks(service_checks(os.environ), sys.stdout) else FAILED
    if not options.photos:
        parser.error("name a PHOTO or a FOLDER, or --check")
    try:
        config = Config.from_env()
        photos = find_photos(options.photos)
        reference = read_reference_file(options.reference) if options.reference else None
        if options.pictures:
            options.pictures.mkdir(parents=True, exist_ok=True)
        detector = Detector.load(config.model_path, config.threads, config.revision)
        given = {
            name: getattr(options, name)
            for name in ("confidence", "iou", "max_detections", "detail")
        }
        thresholds = choose_thresholds(
            {name: value for name, value in given.items() if value is not None},
            config.thresholds,
            detector.model.products,
        )
        detector.warm_up()
    except (SettingError, ModelError, RequestError, OSError) as err:
        parser.error(str(err))
    except KeyboardInterrupt:  # while the model loads
        return INTERRUPTED
    audit = Audit(
        detector=detector,
        thresholds=thresholds,
        metrics=Metrics(),
        reference=reference,
        pictures=options.pictures,
    )
    try:
        return _print_all(photos, audit, options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as err:  # a full disk, a folder that is no longer there
        print(f"Stopped: {err}", file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m function",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "photos", nargs="*", type=Path, metavar="PHOTO|FOLDER", help="JPEG, PNG or WebP"
    )
    parser.add_argument(
        "--check", action="store_true", help="look at settings, model, clock and what AWS has"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="a line a photo, as a batch answers")
    form.add_argument("--csv", action="store_true", help="a line a gap and a product")
    parser.add_argument(
        "--pictures", type=Path, metavar="DIR", help="write NAME.boxes.jpg of each photo there"
    )
    parser.add_argument(
        "--reference", type=Path, metavar="FILE", help="JSON that says how the shelf should look"
    )
    parser.add_argument("--confidence", help="least of a product, 0.001 to 1")
    parser.add_argument("--iou", help="of boxes that are one product, 0 to 1")
    parser.add_argument("--max-detections", help="most products of a photo, 1 to 3000")
    parser.add_argument("--detail", help="fast, auto or fine: how closely to look")
    return parser


def find_photos(paths: list[Path]) -> list[Photo]:
    """List files as they were named, and the pictures below folders; no two get the same name.

    Raises `OSError` for none.
    """
    photos: list[Photo] = []
    for path in paths:
        if not path.is_dir():
            photos.append(Photo(path, path.name))
            continue
        below = pictures_below(path)
        if not below:
            msg = f"{path} holds no {', '.join(SUFFIXES)}"
            raise OSError(msg)
        photos += [Photo(one, one.relative_to(path).as_posix()) for one in below]
    if len({photo.name for photo in photos}) == len(photos):
        return photos
    whole = [Path(os.path.abspath(photo.path)) for photo in photos]
    common = os.path.commonpath([one.parent for one in whole])
    return [
        Photo(photo.path, one.relative_to(common).as_posix())
        for photo, one in zip(photos, whole, strict=True)
    ]


def read_bytes(path: Path) -> bytes:
    """Read a photo, or of one that is too large just enough to tell. Raises `ImageGone`."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_IMAGE_BYTES + 1)
    except OSError as err:
        msg = f"The file cannot be read ({err.strerror})"
        raise ImageGone(msg) from err


def read_reference_file(path: Path) -> Reference:
    """Read how a shelf should look. Raises `InvalidReference` or `OSError`."""
    with path.open("rb") as file:
        return parse_reference(file.read(MAX_REFERENCE_BYTES + 1))


def _print_all(photos: list[Photo], audit: Audit, options: argparse.Namespace) -> int:
    width = shutil.get_terminal_size().columns
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name need not be UTF-8, and not every terminal or pipe takes all that is.
        utf_8 = sys.stdout.encoding.lower() == "utf-8"
        sys.stdout.reconfigure(errors="surrogateescape" if utf_8 else "backslashreplace")
    refused = 0
    if options.csv:
        print(csv_text([CSV_HEADER]), end="")
    elif not options.json:
        print(table_head(width))
    for photo, outcome in _outcomes(photos, audit):
        result = outcome.get("result")
        if options.json:
            print(json.dumps(outcome), flush=True)
        elif result and options.csv:
            print(csv_text(csv_lines(photo.name, result)), end="", flush=True)
        elif result:
            print(table_line(photo.name, result, width), *table_notes(result), sep="\n", flush=True)
        if "problem" in outcome:
            refused += 1
            problem = outcome["problem"]
            name = printable(str(photo.path))
            print(f"{name}: {problem['title']}: {problem['detail']}", file=sys.stderr)
    if refused:
        print(f"{refused} of {len(photos)} photos refused", file=sys.stderr)
    return REFUSED if refused else 0


def _outcomes(photos: list[Photo], audit: Audit) -> Iterator[tuple[Photo, Outcome]]:
    """Audit one photo after another, with a bar on a terminal that has to wait for several."""
    shown = len(photos) > 1 and sys.stderr.isatty()
    for number, photo in enumerate(photos):
        if shown:
            done = BAR * number // len(photos)
            bar = f"{'█' * done}{'░' * (BAR - done)} {number} of {len(photos)}"
            print(f"\r{bar}", end="", file=sys.stderr, flush=True)
        try:
            outcome: Outcome = {"name": photo.name, "status": 200, "result": audit.run(photo)}
        except ImageError as err:
            outcome = {"name": photo.name, "status": err.status, "problem": err.problem()}
        if shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        yield photo, outcome


if __name__ == "__main__":
    sys.exit(main())
