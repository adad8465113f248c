"""What can go wrong, what the caller is told, and whether anyone tries again.

The tree is the retry policy: Knative and our own source retry 5xx and 429 (and 404, 408, 409, 425,
which no error here uses), and nothing else.

ShelfWatchError
├── RequestError              4xx: the same request will fail again
│   ├── InvalidParameter      400
│   ├── InvalidReference      400
│   ├── Unauthorized          401
│   ├── BucketForbidden       403
│   └── ImageError                 in an event: answered with a rejected event, then 2xx
│       ├── ImageEmpty        400
│       ├── ImageGone         410  (never 404, which is retried)
│       ├── ImageTooLarge     413
│       ├── ImageUnsupported  415
│       └── ImageCorrupt      422
└── TryAgain                  5xx: the next attempt may succeed
    ├── DependencyFailed      502  S3 or SNS refused or broke
    ├── NotReady              503
    └── Overloaded            503  with Retry-After

`events.codec.InvalidEvent` is answered with 400 too: that room imports nothing from here.
"""

from __future__ import annotations

from typing import ClassVar, TypedDict

PROBLEM_PREFIX = "urn:shelfwatch:problem:"


class Problem(TypedDict):
    """An RFC 9457 problem; `detail` is ours, never an exception's text."""

    type: str
    title: str
    status: int
    detail: str


def problem(slug: str, title: str, status: int, detail: str) -> Problem:
    """Build the problem whose stable type ends in `slug`."""
    return {"type": PROBLEM_PREFIX + slug, "title": title, "status": status, "detail": detail}


class ShelfWatchError(Exception):
    """An error with an answer. Its message is written for the caller: no secrets, no internals."""

    status: ClassVar[int]
    slug: ClassVar[str]
    title: ClassVar[str]

    def problem(self) -> Problem:
        """Shape the error as an RFC 9457 problem."""
        return problem(self.slug, self.title, self.status, str(self))


class ModelError(Exception):
    """The model file cannot serve; raised at start, never to a caller."""


class RequestError(ShelfWatchError):
    """The request is at fault."""


class InvalidParameter(RequestError):
    """A parameter, part or header has a value we do not take."""

    status, slug, title = 400, "invalid-parameter", "Invalid parameter"


class InvalidReference(RequestError):
    """A reference shelf is neither a result of ours nor a planogram."""

    status, slug, title = 400, "invalid-reference", "Invalid reference"


class Unauthorized(RequestError):
    """The bearer token is missing or wrong."""

    status, slug, title = 401, "unauthorized", "Unauthorized"


class BucketForbidden(RequestError):
    """An event names a bucket that this service does not read."""

    status, slug, title = 403, "bucket-forbidden", "Bucket not allowed"


class ImageError(RequestError):
    """The image can never be read."""


class ImageEmpty(ImageError):
    """There are no bytes."""

    status, slug, title = 400, "image-empty", "Empty image"


class ImageGone(ImageError):
    """The object, or the announced version of it, no longer exists."""

    status, slug, title = 410, "image-gone", "Image gone"


class ImageTooLarge(ImageError):
    """Too many bytes or too many pixels."""

    status, slug, title = 413, "image-too-large", "Image too large"


class ImageUnsupported(ImageError):
    """Not a JPEG, PNG or WebP still."""

    status, slug, title = 415, "image-unsupported", "Unsupported image"


class ImageCorrupt(ImageError):
    """The header is an image's, the rest is not."""

    status, slug, title = 422, "image-corrupt", "Corrupt image"


class TryAgain(ShelfWatchError):
    """Nothing is wrong with the request."""

    retry_after: ClassVar[int] = 1  # seconds


class DependencyFailed(TryAgain):
    """S3 or SNS did not do its part."""

    status, slug, title = 502, "dependency-failed", "Dependency failed"


class NotReady(TryAgain):
    """The model is not warm yet."""

    status, slug, title = 503, "not-ready", "Not ready"


class Overloaded(TryAgain):
    """The queue for the processor is full, or the wait in it was too long."""

    status, slug, title = 503, "overloaded", "Overloaded"
