"""Forms, taken apart in bands; and bodies that came packed."""

import gzip
import random
import zlib

import pytest
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import MultipartDecoder

from function.errors import InvalidParameter
from function.inputs import (
    MAX_LOOKALIKES,
    MAX_MEMBERS,
    MAX_PART_HEAD,
    FormDecoder,
    _unpack,
    parse_form,
)
from function.parameters import BAND

HEAD = b'Content-Disposition: form-data; name="file"'


def form_of(*bodies: bytes, head: bytes = HEAD) -> bytes:
    parts = (b"--X\r\n" + head + b"\r\n\r\n" + body + b"\r\n" for body in bodies)
    return b"".join(parts) + b"--X--\r\n"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hi",
        b"\r\n",
        b"x--X",
        b"\r\n--Xy",
        b"\r\n--Y\r\n",
        b"x" * (BAND * 2 + 3),
        b"\r\n--" * (BAND // 2),
        b"\r" * (BAND + 1),
        b"\n" * (BAND + 1),
    ],
)
@pytest.mark.parametrize("before", range(5))
def test_a_part_is_whole_wherever_a_band_ends(body: bytes, before: int) -> None:
    """Of the first part, so many bytes more move each band's end on through the second."""
    filler = b"y" * (BAND - 2 * len(form_of(b"")) + before)
    found = parse_form(form_of(filler, body, b"end"), "X")
    assert [data for _, _, data in found] == [filler, body, b"end"]


def test_the_end_of_a_band_may_cut_a_boundary_anywhere() -> None:
    for before in range(2 * len(form_of(b""))):
        filler = b"y" * (BAND - before)
        assert [data for _, _, data in parse_form(form_of(filler, b"hi"), "X")] == [filler, b"hi"]


def test_the_headers_of_a_part_are_bounded() -> None:
    longest = HEAD + b"\r\nX: " + b"y" * (MAX_PART_HEAD - len(HEAD) - len(b"\r\nX: "))
    assert parse_form(form_of(b"hi", head=longest), "X") == [("file", "", b"hi")]
    with pytest.raises(InvalidParameter, match="at most 8192 bytes, got 8193"):
        parse_form(form_of(b"hi", head=longest + b"y"), "X")


def test_a_boundary_is_where_werkzeugs_pattern_finds_it() -> None:
    decoder, rng = FormDecoder(b"X", max_parts=1), random.Random(1)
    pattern, found = MultipartDecoder(b"X").boundary_re, 0
    for _ in range(5_000):
        data = b"".join(rng.choices([b"\r", b"\n", b"--", b"X", b" ", b"a"], k=rng.randrange(60)))
        expected, match = pattern.search(data), decoder.boundary_re.search(data)
        assert (match and match.span()) == (expected and expected.span()), data
        found += match is not None
    assert found > 500


@pytest.mark.parametrize("lookalikes", [0, 1, MAX_LOOKALIKES - 1, MAX_LOOKALIKES, 1_000])
def test_lookalikes_of_a_boundary_hide_none(lookalikes: int) -> None:
    body = b"y--X" * lookalikes
    assert parse_form(form_of(body, b"end"), "X") == [("file", "", body), ("file", "", b"end")]


HI, LIMIT = b"hi" * 999, 4000


def packed(*bodies: bytes) -> bytes:
    return b"".join(gzip.compress(body, mtime=0) for body in bodies)


@pytest.mark.parametrize(
    ("coding", "body", "expected"),
    [
        pytest.param("gzip", packed(b""), b"", id="nothing"),
        pytest.param("gzip", packed(HI), HI, id="one"),
        pytest.param("gzip", packed(HI, b"", b"end"), HI + b"end", id="an-empty-one-between"),
        pytest.param(
            "gzip",
            packed(*[b"x"] * MAX_MEMBERS["gzip"]),
            b"x" * MAX_MEMBERS["gzip"],
            id="as-many-as-may-be",
        ),
        pytest.param("gzip", packed(HI, HI), HI + HI, id="to-the-limit"),
        pytest.param("deflate", zlib.compress(HI), HI, id="deflate"),
        pytest.param("deflate", zlib.compress(HI, wbits=-15), HI, id="deflate-without-header"),
    ],
)
def test_a_packed_body_is_unpacked_to_its_last_member(
    coding: str, body: bytes, expected: bytes
) -> None:
    assert _unpack(body, LIMIT, coding) == expected


@pytest.mark.parametrize(
    ("coding", "body", "error"),
    [
        pytest.param("gzip", b"", "must be whole in gzip", id="empty"),
        pytest.param("gzip", packed(HI)[:-1], "must be whole in gzip", id="cut"),
        pytest.param("gzip", packed(HI, HI)[:-1], "must be whole in gzip", id="cut-in-the-second"),
        pytest.param("gzip", packed(HI) + b"more", "must be in gzip", id="text-behind"),
        pytest.param("gzip", packed(HI) + bytes(64), "must be in gzip", id="zeros-behind"),
        pytest.param(
            "gzip",
            packed(*[b""] * (MAX_MEMBERS["gzip"] + 1)),
            "must be at most 1000",
            id="too-many",
        ),
        pytest.param("deflate", zlib.compress(HI) * 2, "must be at most 1,", id="deflate-of-two"),
        pytest.param(
            "deflate",
            zlib.compress(HI, wbits=-15) + b"\0",
            "must be at most 1,",
            id="deflate-and-more",
        ),
    ],
)
def test_what_is_no_member_is_refused(coding: str, body: bytes, error: str) -> None:
    with pytest.raises(InvalidParameter, match=error):
        _unpack(body, LIMIT, coding)


@pytest.mark.parametrize("members", [(b"x" * 4001,), (HI, HI, b"12345"), (b"", b"x" * 10**7)])
def test_no_more_is_unpacked_than_a_body_may_have(members: tuple[bytes, ...]) -> None:
    with pytest.raises(RequestEntityTooLarge):
        _unpack(packed(*members), LIMIT, "gzip")
