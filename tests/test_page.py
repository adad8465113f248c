"""The page in a real browser, against the function under gunicorn with the shipped model."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import urllib3
from conftest import GOOD_SAMPLE, ROOT, SAMPLES, free_port
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Download,
    Locator,
    Page,
    Request,
    Route,
    expect,
    sync_playwright,
)

from function.errors import ImageError, ShelfWatchError, TryAgain, Unauthorized
from local.aws import aws_env
from local.stack import running_function

STATIC = ROOT / "function" / "static"
SCREENS = ROOT / "build" / "screens"
GAPS = SAMPLES / "store-17" / "cam-1" / "aisle-5-gaps.jpg"
TURNED = SAMPLES / "store-17" / "cam-2" / "turned-by-exif.jpg"
CORRUPT = SAMPLES / "store-21" / "cam-1" / "corrupt.jpg"
MOST_EDGES = 0.8  # those on the border of the picture or under a gap's are covered
LAYERS = ("products", "gaps", "rows")
SERVICE_CONFIDENCE = 0.3  # not the service's default: the page must take it from the answer
DESK = {"viewport": {"width": 1280, "height": 860}, "locale": "en-US"}
PHONE = {
    "viewport": {"width": 360, "height": 740},
    "has_touch": True,
    "is_mobile": True,
    "device_scale_factor": 2,
    "locale": "de-DE",
}
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--in-process-gpu",  # a process less
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TIMEOUT_MS = 15_000  # on a busy machine; nothing here takes a second on a quiet one
REPORT_VIOLATIONS = """document.addEventListener("securitypolicyviolation", (event) =>
    console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`));"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    env = {**aws_env("http://127.0.0.1:9"), "SHELFWATCH_CONFIDENCE": str(SERVICE_CONFIDENCE)}
    with running_function(free_port(), env, tmp_path_factory.mktemp("logs")) as (url, child):
        yield url
        child.kill()  # it has nothing to end; a clean stop takes seconds


@pytest.fixture(scope="module")
def browser(url: str) -> Iterator[Browser]:
    """Ends before the service does, which would wait for its connections."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no chromium on PATH: CI must install it")
        pytest.skip("no chromium on PATH")
    SCREENS.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)
        yield browser
        browser.close()


@dataclass
class Console:
    """What a page complains of, a violation of its CSP too, less what a test provokes."""

    expected: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self.take)

    def take(self, message: ConsoleMessage) -> None:
        known = any(words in message.text for words in self.expected)
        if message.type in ("error", "warning") and not known:
            self.errors.append(message.text)


@pytest.fixture(scope="module")
def heard() -> Console:
    return Console()


@pytest.fixture
def console(heard: Console) -> Iterator[Console]:
    heard.expected.clear()
    heard.errors.clear()
    yield heard
    assert heard.errors == []


def new_window(browser: Browser, console: Console, **options: object) -> Page:
    context = browser.new_context(**options)  # type: ignore[arg-type]
    context.add_init_script(REPORT_VIOLATIONS)
    page = context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    console.listen(page)
    return page


# A window costs a second, so the tests share three: a desk, one whose clock can be put forward, and
# a phone. Each test finds the page loaded anew, except those of `counted`.


@pytest.fixture(scope="module")
def desk(browser: Browser, heard: Console) -> Page:
    return new_window(browser, heard, **DESK)


@pytest.fixture(scope="module")
def clocked_desk(browser: Browser, heard: Console) -> Page:
    page = new_window(browser, heard, **DESK)
    page.clock.install()
    return page


@pytest.fixture(scope="module")
def german_phone(browser: Browser, heard: Console) -> Page:
    return new_window(browser, heard, **PHONE)


@contextmanager
def loaded(page: Page, url: str) -> Iterator[Page]:
    page.bring_to_front()  # one behind another draws once a second
    page.mouse.move(0, 0)
    page.goto(url)
    yield page
    page.unroute_all()
    page.evaluate("sessionStorage.clear()")


@pytest.fixture
def page(desk: Page, url: str, console: Console) -> Iterator[Page]:
    with loaded(desk, url) as page:
        yield page


@pytest.fixture
def clocked(clocked_desk: Page, url: str, console: Console) -> Iterator[Page]:
    with loaded(clocked_desk, url) as page:
        yield page


@pytest.fixture
def phone(german_phone: Page, url: str, console: Console) -> Iterator[Page]:
    with loaded(german_phone, url) as page:
        yield page


@pytest.fixture(scope="module")
def gaps_counted(desk: Page, url: str, heard: Console) -> Page:
    page = desk.context.new_page()
    heard.listen(page)
    page.goto(url)
    choose(page, GAPS)
    return page


@pytest.fixture
def counted(gaps_counted: Page, console: Console) -> Page:
    """A page on which one picture is counted. Tests share it and leave it as they found it."""
    gaps_counted.bring_to_front()
    gaps_counted.mouse.move(0, 0)
    return gaps_counted


def choose(page: Page, *pictures: Path) -> None:
    """Choose pictures and wait until each is counted or refused."""
    page.set_input_files("#choose", pictures)
    done = page.locator(".strip li:is([data-state=counted], [data-state=failed])")
    done.nth(len(pictures) - 1).wait_for()


def predictions(page: Page) -> list[str]:
    """Collect the requests to come for an audit."""
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url) if is_predict(request.url) else 0)
    return seen


def is_predict(address: str) -> bool:
    return "/predict" in address


@cache
def ask(url: str, picture: Path, confidence: float | None = None) -> dict[str, object]:
    """What the service itself answers, at its own confidence where none is given."""
    fields = {"file": (picture.name, picture.read_bytes())}
    query = "" if confidence is None else f"?confidence={confidence}"
    answer = urllib3.request("POST", f"{url}/predict{query}", fields=fields)
    assert answer.status == 200
    result: dict[str, object] = json.loads(answer.data)
    return result


def save(page: Page, button: str) -> tuple[str, bytes]:
    """Click a download; give its file name and content."""
    with page.expect_download() as waiting:
        page.click(button)
    download: Download = waiting.value
    return download.suggested_filename, download.path().read_bytes()


def overlay(page: Page) -> np.ndarray:
    """Read what is drawn over the picture, (H, W, 4) RGBA, after the next frame."""
    data = page.evaluate(
        """() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() =>
            resolve(document.getElementById("overlay").toDataURL()))))"""
    )
    return np.array(PIL.Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))))


def has_colour(pixels: np.ndarray, red: int, green: int, blue: int) -> bool:
    return bool((pixels == (red, green, blue, 255)).all(axis=2).any())


PRODUCT, GAP = (0x2E, 0xE6, 0xC5), (0xFF, 0xB0, 0x20)


def test_a_chosen_picture_is_counted(counted: Page, url: str) -> None:
    page = counted
    answer = ask(url, GAPS)
    expect(page.locator("#count")).to_have_text(str(answer["count"]))
    expect(page.locator("#fill-rate")).to_have_text(percent(answer["fill_rate"]))
    expect(page.locator("#gap-count")).to_have_text(str(len(answer["gaps"])))
    expect(page.locator("#status")).to_contain_text(f"{answer['count']} products in")
    expect(page.locator("#announce")).to_have_text(
        f"aisle-5-gaps.jpg: {page.inner_text('#status')}"
    )
    expect(page.locator("#model")).to_contain_text(answer["model"]["name"])
    assert table_of(page) == lines_of(answer)
    assert has_colour(overlay(page), *PRODUCT)
    assert has_colour(overlay(page), *GAP)


def table_of(page: Page) -> list[list[str]]:
    read = "(lines) => lines.map((line) => [...line.cells].map((cell) => cell.innerText.trim()))"
    lines: list[list[str]] = page.locator("#rows tr").evaluate_all(read)
    return lines


def percent(share: float) -> str:
    """Write a share as JavaScript does: 92.5 % is 93 %, where Python writes 92 %."""
    return f"{Decimal(str(share * 100)).quantize(Decimal(1), ROUND_HALF_UP)}%"


def lines_of(answer: dict[str, object]) -> list[list[str]]:
    """What the table of a result says."""
    return [
        [
            str(row["index"] + 1),
            str(row["count"]),
            percent(row["fill_rate"]),
            str(sum(gap["row"] == row["index"] for gap in answer["gaps"])),
        ]
        for row in answer["rows"]
    ]


def test_the_slider_leaves_out_products_without_asking_the_service(page: Page, url: str) -> None:
    """Rows, gaps and fill rates stay as the service found them, and the page says so."""
    requests = predictions(page)
    slider, hint = page.locator("#confidence"), page.locator("#slider-hint")
    pictures = [GAPS, TURNED]
    choose(page, *pictures)
    announced = page.inner_text("#announce")
    for number, picture in enumerate(pictures):
        page.locator(".strip .tile").nth(number).click()
        answer = ask(url, picture)
        page.fill("#confidence", str(SERVICE_CONFIDENCE))
        assert [slider.get_attribute(name) for name in ("min", "max")] == ["0.3", "0.95"]
        assert (slider.input_value(), hint.inner_text()) == (
            str(SERVICE_CONFIDENCE),
            "Further right, only surer products count; rows and gaps stay as they are.",
        )
        assert downloaded_result(page) == without_times(answer)
        counts = {answer["count"]}
        for confidence in (0.5, 0.8, 0.95):
            page.fill("#confidence", str(confidence))
            expected = without_times(result_at(answer, confidence))
            assert downloaded_result(page) == expected
            assert page.inner_text("#count") == str(expected["count"])
            assert table_of(page) == lines_of(expected)
            assert hint.inner_text() == "Rows, gaps and fill rates are those found at 0.30."
            assert found_of(expected) == found_of(ask(url, picture, confidence))
            counts.add(expected["count"])
        assert len(counts) >= 3  # a sure model may lose none at the first step
        assert "0" in {line[1] for line in table_of(page)}  # rows with no product left stay
    assert requests == [f"{url}/predict"] * 2
    assert page.inner_text("#announce") == announced  # once, not at each step


def downloaded_result(page: Page) -> dict[str, object]:
    return without_times(json.loads(save(page, "#download-json")[1]))


def without_times(answer: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in answer.items() if key != "timings_ms"}


def result_at(answer: dict[str, object], confidence: float) -> dict[str, object]:
    """The service's answer with fewer products."""
    detections = [found for found in answer["detections"] if found["confidence"] >= confidence]
    count = Counter(found["row"] for found in detections)
    return {
        **answer,
        "detections": detections,
        "count": len(detections),
        "rows": [{**row, "count": count[row["index"]]} for row in answer["rows"]],
        "thresholds": {**answer["thresholds"], "confidence": confidence},
    }


def found_of(answer: dict[str, object]) -> list[dict[str, object]]:
    """The products alone: which row they stand on is found at the service's own confidence."""
    return [{key: found[key] for key in found if key != "row"} for found in answer["detections"]]


def test_a_picture_can_be_dropped_and_pasted(page: Page) -> None:
    for way in ("drop", "paste"):
        page.evaluate(
            """([way, data]) => {
                const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
                const transfer = new DataTransfer();
                transfer.items.add(new File([bytes], `${way}.jpg`, { type: "image/jpeg" }));
                const options = { bubbles: true, cancelable: true };
                document.body.dispatchEvent(way === "drop"
                    ? new DragEvent("drop", { ...options, dataTransfer: transfer })
                    : new ClipboardEvent("paste", { ...options, clipboardData: transfer }));
            }""",
            [way, base64.b64encode(GAPS.read_bytes()).decode()],
        )
        page.locator(".strip li[data-state=counted]", has_text=f"{way}.jpg").wait_for()
    expect(page.locator("#report")).to_be_visible()


def test_a_sample_is_one_click_away(page: Page, url: str) -> None:
    samples = sorted((STATIC / "samples").glob("*.jpg"))
    assert [path.name for path in samples] == ["full.jpg", "gaps.jpg", "tilted.jpg"]
    for path in samples:
        assert path.stat().st_size <= 60_000
        page.click(f"[data-name='{path.name}']")
        expect(page.locator("#count")).to_have_text(str(ask(url, path)["count"]))
        page.click(".drop")
    expect(page.locator("#main")).to_have_attribute("data-state", "empty")


def test_the_picture_zooms_and_moves(counted: Page) -> None:
    page = counted
    zoom, frame = page.locator("#zoom"), page.locator("#frame")
    expect(zoom).to_have_text("100%")
    expect(page.locator("#zoom-out")).to_be_disabled()
    page.click("#zoom-in")
    expect(zoom).to_have_text("150%")
    frame.hover()
    page.mouse.wheel(0, -500)
    expect(zoom).to_have_text("334%")
    page.mouse.wheel(0, 5000)
    expect(zoom).to_have_text("100%")
    frame.dblclick()
    expect(zoom).to_have_text("200%")
    before = overlay(page)
    drag(page, frame, 80, 40)
    assert not np.array_equal(before, overlay(page))
    frame.focus()
    for key, text in (("+", "300%"), ("-", "200%"), ("0", "100%")):
        page.keyboard.press(key)
        expect(zoom).to_have_text(text)
    page.click("#rows tr:nth-child(2) button")
    expect(zoom).to_have_text("200%")
    page.screenshot(path=SCREENS / "row.png")
    page.click("#zoom-fit")
    expect(zoom).to_have_text("100%")


def drag(page: Page, target: Locator, dx: int, dy: int) -> None:
    box = target.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx, y + dy, steps=3)
    page.mouse.up()


def test_the_wheel_scrolls_the_page_while_the_picture_is_whole(counted: Page) -> None:
    counted.set_viewport_size({"width": 900, "height": 600})
    counted.locator("#frame").hover()
    before = counted.evaluate("scrollY")
    counted.mouse.wheel(0, 300)
    counted.wait_for_function("(before) => scrollY > before", arg=before)
    expect(counted.locator("#zoom")).to_have_text("100%")
    counted.set_viewport_size(DESK["viewport"])


def test_two_fingers_zoom(phone: Page) -> None:
    page = phone
    choose(page, GAPS)
    page.locator("#frame").scroll_into_view_if_needed()
    box = page.locator("#frame").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    fingers = page.context.new_cdp_session(page)
    # First both go up, which with one finger would scroll the page, then they part.
    for kind, move, apart in (
        ("touchStart", 0, 30),
        ("touchMove", -20, 30),
        ("touchMove", -40, 30),
        ("touchMove", -40, 60),
    ):
        points = [{"x": x + s * apart, "y": y + move, "id": i} for i, s in enumerate((-1, 1))]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(page.locator("#zoom")).to_have_text(re.compile(r"^200\s%$"))


def test_boxes_are_drawn_on_their_products_in_the_screens_own_pixels(phone: Page, url: str) -> None:
    phone.set_viewport_size(DESK["viewport"])  # still two pixels for each of CSS
    choose(phone, GAPS)
    show_layers(phone, "products")  # nine gaps would cover a fifth of the edges
    answer, pixels = ask(url, GAPS), overlay(phone)
    show_layers(phone, *LAYERS)
    phone.set_viewport_size(PHONE["viewport"])
    height, width = pixels.shape[:2]
    image = answer["image"]
    scale = min(width / image["width"], height / image["height"])
    offset = np.array((width, height)) - scale * np.array((image["width"], image["height"]))
    boxes = xyxy_of(answer) * scale + np.tile(offset / 2, 2)
    assert width > DESK["viewport"]["width"]
    assert share_drawn(pixels, boxes) > MOST_EDGES
    edges = (pixels == (*PRODUCT, 255)).all(axis=2)
    assert edges.sum(axis=1).max() > 100  # whole lines in the pure colour: nothing is blurred


def xyxy_of(answer: dict[str, object]) -> np.ndarray:
    return np.array([found["xyxy"] for found in answer["detections"]])


def share_drawn(pixels: np.ndarray, boxes: np.ndarray) -> float:
    """Which share of the boxes has its left and its right edge drawn, give or take a line."""
    edges = (pixels == (*PRODUCT, 255)).all(axis=2)
    middles = ((boxes[:, 1] + boxes[:, 3]) / 2).round().astype(int)
    found = [
        all(edges[y, max(0, round(x) - 3) : round(x) + 4].any() for x in (box[0], box[2]))
        for y, box in zip(middles, boxes, strict=True)
    ]
    return float(np.mean(found))


def test_each_layer_can_be_hidden(counted: Page) -> None:
    whole = overlay(counted)
    for layer in LAYERS:
        show_layers(counted, *(other for other in LAYERS if other != layer))
        part = overlay(counted)
        assert not np.array_equal(part, whole)
        assert has_colour(part, *PRODUCT) == (layer != "products")
        assert has_colour(part, *GAP) == (layer != "gaps")
    show_layers(counted, *LAYERS)
    assert np.array_equal(overlay(counted), whole)


def show_layers(page: Page, *layers: str) -> None:
    """Check the boxes of these layers alone."""
    click = """(boxes, ids) => boxes.forEach((box) => {
        if (box.checked !== ids.includes(box.id)) box.click();
    })"""
    page.locator("#layers input").evaluate_all(click, [f"show-{layer}" for layer in layers])


def test_a_row_lights_up_in_the_table_and_on_the_picture(counted: Page) -> None:
    plain, second = overlay(counted), counted.locator("#rows tr").nth(1)
    second.hover()
    alone = overlay(counted)
    assert brightness(alone) < brightness(plain)  # the other rows lie in shadow
    counted.mouse.move(0, 0)
    assert np.array_equal(plain, overlay(counted))
    second.locator("button").focus()
    assert np.array_equal(alone, overlay(counted))
    second.locator("button").blur()
    counted.locator("#frame").hover()  # its middle is on the third of five rows
    expect(counted.locator("#rows tr").nth(2)).to_have_class("lit")
    assert brightness(overlay(counted)) >= 0.9 * brightness(plain)


def brightness(pixels: np.ndarray) -> float:
    return float(pixels[..., :3].mean())


def test_the_csv_has_a_line_for_each_product_that_is_shown(
    page: Page, tmp_path: Path, url: str
) -> None:
    formula = tmp_path / "=1+1, aisle.jpg"
    formula.write_bytes(GAPS.read_bytes())
    choose(page, formula)
    for confidence in (SERVICE_CONFIDENCE, 0.8):
        page.fill("#confidence", str(confidence))
        name, content = save(page, "#download-csv")
        assert name.endswith("1+1, aisle.csv")
        lines = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
        assert {line["picture"] for line in lines} == {"'=1+1, aisle.jpg"}
        products = [
            [int(line["row"]) - 1, *(float(line[e]) for e in ("left", "top", "right", "bottom"))]
            for line in lines
        ]
        answer = result_at(ask(url, GAPS), confidence)
        places = [[found["row"], *found["xyxy"]] for found in answer["detections"]]
        assert sorted(products) == sorted(places)
        order = [(row, left) for row, left, *_ in products]
        assert order == sorted(order)


def test_the_annotated_picture_is_the_picture_as_it_is_seen_in_full_size(
    page: Page, tmp_path: Path, url: str
) -> None:
    """Without boxes it is the picture itself, turned as its EXIF says."""
    pictures = [tmp_path / f"turned.{kind}" for kind in ("jpeg", "webp")]
    with PIL.Image.open(TURNED) as stored:
        upright = np.asarray(PIL.ImageOps.exif_transpose(stored).convert("RGB")).astype(int)
        for picture in pictures:
            stored.save(picture, exif=stored.getexif(), quality=95)
    choose(page, *pictures)
    for number, picture in enumerate(pictures):
        page.locator(".strip .tile").nth(number).click()
        show_layers(page, *LAYERS)
        name, annotated = save_picture(page)
        assert name == "turned.boxes.png"
        assert annotated.shape[:2] == upright.shape[:2]
        assert share_drawn(annotated, xyxy_of(ask(url, picture))) > MOST_EDGES
        show_layers(page)
        plain = save_picture(page)[1][..., :3]
        assert np.abs(plain - upright).mean() < 5  # of 255: what the encoder lost


def save_picture(page: Page) -> tuple[str, np.ndarray]:
    name, content = save(page, "#download-png")
    return name, np.array(PIL.Image.open(io.BytesIO(content)))


def test_an_error_is_told_in_plain_words_and_what_is_no_picture_is_not_sent(
    page: Page, console: Console, tmp_path: Path
) -> None:
    console.expected.append("422")
    requests = predictions(page)
    (tmp_path / "list.pdf").write_bytes(b"%PDF-1.7")
    choose(page, CORRUPT, tmp_path / "list.pdf")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("This picture is damaged.")
    expect(alert).to_contain_text("take a new photo")
    expect(page.locator("#retry")).to_be_hidden()
    expect(page.locator("#report")).to_be_hidden()
    expect(page.locator(".strip li").first).to_contain_text("not counted")
    page.locator(".strip .tile").nth(1).click()
    expect(alert).to_contain_text("This kind of file cannot be counted.")
    assert len(requests) == 1


def test_several_pictures_stand_in_a_strip_with_their_state(
    page: Page, console: Console, url: str
) -> None:
    console.expected.append("422")
    choose(page, GOOD_SAMPLE, CORRUPT, GAPS)
    tiles = page.locator(".strip li")
    counts = [ask(url, path)["count"] for path in (GOOD_SAMPLE, GAPS)]
    expect(tiles).to_have_text(
        [
            re.compile(rf"1\. aisle-4\.jpg\s*{counts[0]} products"),
            re.compile(r"2\. corrupt\.jpg\s*not counted"),
            re.compile(rf"3\. aisle-5-gaps\.jpg\s*{counts[1]} products"),
        ]
    )
    expect(page.locator("#queue")).to_contain_text("3 pictures: 2 counted, 1 failed")
    expect(page.locator("#queue")).to_contain_text(f"{sum(counts)} products")
    tiles.nth(2).locator(".tile").click()
    expect(page.locator("#count")).to_have_text(str(counts[1]))
    name, content = save(page, "#download-all")
    lines = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    assert (name, len(lines)) == ("shelves.csv", sum(counts))
    page.screenshot(path=SCREENS / "several.png")
    for _ in range(3):
        tiles.first.locator(".drop").click()
    expect(page.locator("#main")).to_have_attribute("data-state", "empty")


def test_a_picture_in_work_keeps_still_on_wish_and_once_removed_is_no_longer_asked_for(
    page: Page, console: Console
) -> None:
    console.expected.append("net::ERR")
    page.route(is_predict, lambda route: None)  # an answer that never comes
    page.set_input_files("#choose", GAPS)
    page.locator(".strip li[data-state=counting]").wait_for()
    animation = "getComputedStyle(document.querySelector('.tile'), '::after').animationName"
    assert page.evaluate(animation) == "turn"
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(animation) == "none"
    page.emulate_media(reduced_motion="no-preference")
    with page.expect_event("requestfailed") as failed:
        page.get_by_role("button", name="Remove aisle-5-gaps.jpg").click()
    assert "ABORTED" in str(failed.value.failure)
    expect(page.locator("#main")).to_have_attribute("data-state", "empty")


def test_a_busy_service_is_asked_again_after_a_visible_wait(
    clocked: Page, console: Console
) -> None:
    console.expected.append("503")
    answer_first(clocked, is_predict, "overloaded", 503, {"Retry-After": "9"})
    clocked.set_input_files("#choose", GAPS)
    expect(clocked.locator(".strip li")).to_contain_text("again in 9 s")
    expect(clocked.locator("#status")).to_contain_text("The service is busy: again in")
    clocked.clock.run_for(9000)
    clocked.locator(".strip li[data-state=counted]").wait_for()


def answer_first(
    page: Page, which: Callable[[str], bool], slug: str, status: int, headers: dict[str, str]
) -> None:
    """Answer the first such request with a problem, the others by the service."""
    problem = {"type": f"urn:shelfwatch:problem:{slug}", "title": slug, "status": status}

    def answer(route: Route) -> None:
        route.fulfill(
            status=status,
            headers=headers,
            content_type="application/problem+json",
            body=json.dumps(problem),
        )

    page.route(which, answer, times=1)


def test_a_service_that_starts_is_waited_for(clocked: Page, console: Console) -> None:
    page = clocked
    console.expected.append("503")
    answer_first(page, lambda address: "/health" in address, "not-ready", 503, {})
    page.reload()
    expect(page.locator("#service")).to_contain_text("The service is starting.")
    page.set_input_files("#choose", GAPS)
    expect(page.locator(".strip li")).to_have_attribute("data-state", "waiting")
    page.clock.run_for(2000)
    expect(page.locator(".strip li")).to_have_attribute("data-state", "counted")
    expect(page.locator("#service")).to_be_hidden()


def test_a_lost_connection_is_told_and_heals_by_itself(clocked: Page, console: Console) -> None:
    page = clocked
    console.expected.append("net::ERR")
    page.context.set_offline(True)
    page.set_input_files("#choose", [GAPS, TURNED])
    expect(page.get_by_role("alert")).to_contain_text("The service does not answer.")
    expect(page.locator(".strip li").nth(1)).to_have_attribute("data-state", "waiting")
    page.context.set_offline(False)
    page.clock.run_for(2000)
    expect(page.locator(".strip li[data-state=counted]")).to_have_count(2)
    expect(page.locator("#problem")).to_be_hidden()


def test_a_picture_that_never_gets_through_is_sent_again_once(
    clocked: Page, console: Console
) -> None:
    page = clocked
    console.expected.append("net::ERR")
    requests = predictions(page)
    page.route(is_predict, lambda route: route.abort())
    page.set_input_files("#choose", GAPS)
    for _ in range(4):
        expect(page.locator(".strip li")).to_have_attribute("data-state", "failed")
        expect(page.get_by_role("button", name="Try again")).to_be_visible()
        with page.expect_response(lambda response: "/health" in response.url):
            page.clock.run_for(2000)
        if len(requests) == 2:
            break
    expect(page.locator(".strip li")).to_have_attribute("data-state", "failed")
    page.clock.run_for(10_000)
    assert len(requests) == 2


def test_a_service_with_tokens_asks_for_one(page: Page, console: Console) -> None:
    """The line waits for it: no other picture is sent only to be refused."""
    console.expected.append("401")
    sent: list[str | None] = []

    def remember(request: Request) -> None:
        if is_predict(request.url):
            sent.append(request.headers.get("authorization"))

    page.on("request", remember)
    answer_first(page, is_predict, "unauthorized", 401, {})
    page.set_input_files("#choose", [GAPS, TURNED])
    expect(page.get_by_role("alert")).to_contain_text("access token")
    page.locator(".strip .tile").nth(1).click()
    expect(page.locator(".strip li").nth(1)).to_have_attribute("data-state", "waiting")
    page.get_by_label("Access token").fill("s3cret")
    page.get_by_role("button", name="Use it").click()
    expect(page.locator(".strip li[data-state=counted]")).to_have_count(2)
    page.remove_listener("request", remember)
    assert sent == [None, "Bearer s3cret", "Bearer s3cret"]


def test_the_page_fits_a_phone_and_numbers_follow_its_language(
    phone: Page, console: Console
) -> None:
    page = phone
    console.expected.append("422")
    assert_no_sideways_scroll(page)
    choose(page, GAPS, CORRUPT)
    assert_no_sideways_scroll(page)
    expect(page.locator("#confidence-value")).to_have_text("0,30")
    expect(page.locator("#fill-rate")).to_have_text(re.compile(r"^\d\d\s%$"))
    page.screenshot(path=SCREENS / "phone.png", full_page=True)
    page.locator(".strip .tile").nth(1).click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert_no_sideways_scroll(page)
    expect(page.locator("#photo")).to_have_attribute("capture", "environment")
    expect(page.get_by_text("Take a photo")).to_be_visible()


def assert_no_sideways_scroll(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_keyboard_alone_leads_through(page: Page) -> None:
    with page.expect_file_chooser():
        tab_to(page, "#choose")
        page.keyboard.press("Enter")
    tab_to(page, "[data-name='gaps.jpg']")
    page.keyboard.press("Enter")
    expect(page.locator("#report")).to_be_visible()
    before = int(page.locator("#count").inner_text())
    tab_to(page, "#zoom-in")
    page.keyboard.press("Enter")
    expect(page.locator("#zoom")).to_have_text("150%")
    tab_to(page, "#confidence")
    for _ in range(25):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#confidence-value")).to_have_text("0.55")
    after = int(page.locator("#count").inner_text())
    assert after < before
    expect(page.locator("#confidence")).to_have_attribute(
        "aria-valuetext", f"0.55, {after} products"
    )
    tab_to(page, "#rows tr:nth-child(2) button")
    expect(page.locator("#rows tr").nth(1)).to_have_class("lit")
    tab_to(page, "#download-csv")
    with page.expect_download():
        page.keyboard.press("Enter")


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until the element has the focus, and see that the focus shows."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            break
    else:
        pytest.fail(f"Tab does not reach {selector}")
    ring = """(selector) => {
        const shown = document.querySelector(selector);
        const target = shown.matches(".hidden-input") ? shown.nextElementSibling : shown;
        return getComputedStyle(target).outlineStyle;
    }"""
    assert page.evaluate(ring, selector) == "solid"


def test_axe_finds_no_serious_violation(page: Page, console: Console) -> None:
    console.expected.append("422")
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text())
    found = {"empty": violations(page)}
    choose(page, GAPS, CORRUPT)
    found["result"] = violations(page)
    page.screenshot(path=SCREENS / "light.png")
    page.emulate_media(color_scheme="dark")
    page.screenshot(path=SCREENS / "dark.png")
    page.locator(".strip .tile").nth(1).click()
    expect(page.get_by_role("alert")).to_be_visible()
    found["error"] = violations(page)
    assert found == {"empty": [], "result": [], "error": []}


def violations(page: Page) -> list[str]:
    """What axe finds on the page as it is; in the dark only the colours differ."""
    found = []
    for scheme, background, rules, least in (
        ("dark", "rgb(15, 21, 20)", ["cat.color"], 1),
        ("light", "rgb(243, 246, 245)", [], 16),
    ):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == background
        run = "(rules) => axe.run(rules.length > 0 ? { runOnly: rules } : {})"
        result = page.evaluate(run, rules)
        assert len(result["passes"]) >= least
        found += [
            f"{scheme}, {violation['impact']} {violation['id']}: {node['html'][:120]}"
            for violation in result["violations"]
            for node in violation["nodes"]
        ]
    return found


def test_every_problem_a_picture_can_meet_has_a_sentence() -> None:
    """`ImageGone` is an event's alone: a picture that is sent is there."""
    words = (STATIC / "words.js").read_text()
    errors = [*leaves(ImageError), *leaves(TryAgain), Unauthorized]
    slugs = {error.slug for error in errors} - {"image-gone"}
    assert len(slugs) >= 7
    assert {slug for slug in slugs if f'"{slug}": [' not in words} == set()


def leaves(error: type[ShelfWatchError]) -> list[type[ShelfWatchError]]:
    return [leaf for kind in error.__subclasses__() for leaf in [kind, *leaves(kind)]]


def test_the_page_loads_nothing_from_elsewhere(url: str) -> None:
    """Every file it names is served; none of its files names another host."""
    for path in [p for p in STATIC.rglob("*") if p.suffix in {".html", ".js", ".css"}]:
        text = path.read_text()
        addresses = re.findall(r"https?://[^\s\"')]+", text.replace("http://www.w3.org/", ""))
        assert addresses == [], path
        for name in re.findall(r'from "\./([\w.]+)"', text):
            assert urllib3.request("GET", f"{url}/static/{name}").status == 200
