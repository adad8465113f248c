"""What the command lines of this room, and of the bench, take."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def at_least(low: int) -> Callable[[str], int]:
    """Make the reader of an option that is a whole number from `low`.

    The reader raises `argparse.ArgumentTypeError`, which argparse shows with the option's name.
    """

    def read(text: str) -> int:
        # The digits are bounded, as int() refuses thousands of them in words of its own.
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= low):
            msg = f"it must be a whole number from {low}, got {text!r}"
            raise argparse.ArgumentTypeError(msg)
        return int(text)

    return read
