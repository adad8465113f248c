"""How long a person waits: `python -m bench.page [--commit COMMIT] [--runs 10]`

From choosing a photo of 12 megapixels to its boxes on the screen, in a Chromium whose processor is
slowed down four times, as a phone's is, with and without a slow line. Whole photos and smaller ones
take turns, and so does the page of another commit.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import ExitStack
from pathlib import Path

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from bench.against import checkout, commit, running_tree
from bench.pictures import draw_pictures
from bench.results import Part, table
from local.aws import aws_env
from local.processes import HOST, ROOT
from model.options import at_least

SLOWDOWN = 4
# Bytes a second, up and down, and milliseconds there and back: 4G at the end of an aisle.
LINE = {"uploadThroughput": 5e6 / 8, "downloadThroughput": 20e6 / 8, "latency": 60}
PHONE: ViewportSize = {"width": 390, "height": 844}
# The overlay is drawn in the frame after the list is written.
DRAWN = """() => !document.getElementById("report").hidden && new Promise((resolve) =>
    requestAnimationFrame(() => requestAnimationFrame(() => resolve(true))))"""


def waited(browser: Browser, url: str, photo: Path, smaller: bool, slow_line: bool) -> float:
    """Return the seconds from choosing a photo to its boxes."""
    context = browser.new_context(viewport=PHONE, device_scale_factor=3, is_mobile=True)
    page = context.new_page()
    page.goto(url)
    page.wait_for_load_state("networkidle")
    if smaller:
        page.get_by_label("Send smaller pictures").check()
    _slow_down(page, slow_line)
    began = time.perf_counter()
    page.set_input_files("#choose", photo)
    page.wait_for_function(DRAWN, timeout=120_000, polling="raf")
    seconds = time.perf_counter() - began
    context.close()
    return seconds


def _slow_down(page: Page, slow_line: bool) -> None:
    tools = page.context.new_cdp_session(page)
    tools.send("Emulation.setCPUThrottlingRate", {"rate": SLOWDOWN})
    if slow_line:
        tools.send("Network.enable")
        tools.send("Network.emulateNetworkConditions", {"offline": False, **LINE})


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__)
    parser.add_argument("--commit", type=commit, help="whose page is measured, too")
    parser.add_argument("--runs", type=at_least(1), default=10, help="of each kind (%(default)s)")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="(%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("build/bench"), help="(%(default)s)")
    args = parser.parse_args()
    part = Part(name="page", folder=args.output, full=args.runs >= 10)
    photo = draw_pictures(args.output / "pictures")["12 MP"][0]
    with ExitStack() as stack:
        trees = {"this page": ROOT}
        if args.commit:
            trees["the commit's page"] = stack.enter_context(checkout(args.commit, args.output))
        logs = args.output / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        env = aws_env(f"http://{HOST}:9")
        urls = {
            name: stack.enter_context(running_tree(name, tree, env, logs / f"page-{at}.log"))[0]
            for at, (name, tree) in enumerate(trees.items())
        }
        kinds = [(name, False) for name in urls] + [("this page", True)]
        browser = stack.enter_context(sync_playwright()).chromium.launch(
            executable_path=args.chromium, args=["--no-sandbox"]
        )
        seconds: dict[str, list[float]] = {}
        for turn in range(args.runs + 1):
            for slow_line in (False, True):
                for name, smaller in kinds:
                    spent = waited(browser, urls[name], photo, smaller, slow_line)
                    line = "4G" if slow_line else "loopback"
                    if turn:  # the first fills caches
                        kind = f"{name}, {'smaller' if smaller else 'whole'} photo, {line}"
                        seconds.setdefault(kind, []).append(spent)
        browser.close()
    rows = [
        [kind, f"{statistics.median(found):.2f}", f"{min(found):.2f}-{max(found):.2f}"]
        for kind, found in sorted(seconds.items())
    ]
    part.write({"seconds": seconds}, table(["", "median, s", "least-most"], rows))


if __name__ == "__main__":
    main()
