"""Odd arguments of the tools beside the service end in one sentence, before any work."""

import argparse
import subprocess
import sys

import pytest

from local.processes import ROOT
from model.options import at_least


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "ten", "²", "9" * 5000])
def test_a_count_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="must be a whole number from 1, got"):
        at_least(1)(text)


def test_the_least_is_a_count() -> None:
    assert [at_least(low)(str(low)) for low in (0, 1, 10)] == [0, 1, 10]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("bench.against no-such-commit", "must be a commit of this repository, got 'no-such"),
        ("bench.against HEAD --pairs 0", "--pairs: it must be a whole number from 1, got '0'"),
        ("bench.events --rounds 0", "--rounds: it must be a whole number from 1, got '0'"),
        ("bench.monitor --audits 0", "--audits: it must be a whole number from 1, got '0'"),
        ("bench.monitor --database nonsense", "`DATABASE_URL` must be sqlite:///file or"),
        ("bench.parity nowhere.onnx --photos nowhere", "nowhere.onnx is missing or not an ONNX"),
        ("bench.report --results nowhere", "--results must be a folder that `make bench` has"),
        ("model.evaluate_shelf", "one of --photos, --scenes and --drawn must be given, got none"),
        ("model.evaluate_shelf --drawn -1", "--drawn: it must be a whole number from 0"),
        ("model.render --output README.md", "Not a directory: 'README.md/images'"),
        ("tests.faults --row nosuch", "--row must be words of a row's name, got 'nosuch'"),
        ("tests.limits --row nosuch", "--row must be words of a row's name, got 'nosuch'"),
    ],
)
def test_a_command_names_an_odd_argument(command: str, words: str) -> None:
    run = [sys.executable, "-m", *command.split()]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
