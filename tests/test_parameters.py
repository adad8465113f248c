"""Values of a request, read strictly."""

import base64
import random

import pytest

from function.errors import InvalidParameter
from function.parameters import BAND, decode_base64

LONG = random.Random(3).randbytes(BAND * 2 + 1)
WHOLE = base64.b64encode(LONG).decode()
LINES = base64.encodebytes(LONG).decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", b""),
        ("aGk=", b"hi"),
        ("data:image/jpeg;base64,aGk=", b"hi"),
        (WHOLE, LONG),
        (LINES, LONG),
        (LINES.replace("\n", "\r\n"), LONG),
        (base64.b64encode(LONG[: BAND // 4 * 3]).decode(), LONG[: BAND // 4 * 3]),
    ],
    ids=["empty", "short", "data URI", "bands", "lines", "lines of MIME", "one band"],
)
def test_base64_gives_the_bytes_that_were_encoded(text: str, expected: bytes) -> None:
    assert decode_base64(text, "`x`") == expected


@pytest.mark.parametrize(
    "text",
    [
        "aGk",
        "aGk==",
        "aG k=",
        "aGk=aGk=",
        "é",
        "====",
        WHOLE[: BAND - 2] + "==" + WHOLE[BAND:],
        WHOLE + "aGk=",
        WHOLE[:-1],
        WHOLE[:BAND] + "*" + WHOLE[BAND + 1 :],
    ],
)
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"`x` must be base64"):
        decode_base64(text, "`x`")
