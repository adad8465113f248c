"""What can go wrong, what the caller is told, and whether anyone tries again.

The tree is the retry policy: Knative and our own source retry 5xx and 429, and 404, 408, 409, 425.
Of the last four, an event can meet only 408, when it came too slowly; 404 is for paths.

ShelfWatchError
├── RequestError              4xx: the same request will fail again
│   ├── InvalidParameter      400
│   ├── InvalidReference      400
│   ├── Unauthorized          401
│   ├── BucketForbidden       403
│   ├── CrossSite             403
│   ├── ImageArchived         403  (not gone: it can be restored)
│   ├── ModelNotFound         404
│   ├── NotAcceptable         406
│   ├── BatchTooLarge         413
│   ├── BodyUnsupported       415
│   └── ImageError                 in an event: answered with a rejected event, then 2xx
│       ├── ImageEmpty        400
│       ├── ImageGone         410  (never 404, which is retried)
│       ├── ImageTooLarge     413
│       ├── ImageUnsupported  415
│       └── ImageCorrupt      422
└── TryAgain                  5xx: the next attempt may succeed
    ├── DependencyFailed      502  S3 or SNS refused or broke
    ├── CredentialsRefused    503  AWS takes our credentials or our clock for nobody's
    ├── NotReady              503
    └── Overloaded            503  with Retry-After

`events.codec.InvalidEvent` is answered with 400 too: that room imports nothing from here. What
Flask, Werkzeug and gunicorn refuse before our code is asked is in `HTTP_PROBLEMS`. Each problem is
explained in docs/problems.md.
"""

from __future__ import annotations

from typing import ClassVar, TypedDict

PROBLEM_PREFIX = "urn:shelfwatch:problem:"
MAX_DETAIL = 500  # characters; a detail names the caller's value, which may be megabytes long


class Problem(TypedDict):
    """An RFC 9457 problem; `detail` is ours, never an exception's text."""

    type: str
    title: str
    status: int
    detail: str


# Refused before our code is asked, by status: slug, title, detail. The words are ours, as those of
# the libraries may repeat what the caller sent, and change between their releases.
HTTP_PROBLEMS = {
    400: ("bad-request", "Bad request", "The request could not be read"),
    404: ("not-found", "Not found", "There is nothing here"),
    405: ("method-not-allowed", "Method not allowed", "This method is not allowed here"),
    408: ("request-timeout", "Request timeout", "The request did not arrive in time"),
    413: ("request-entity-too-large", "Request entity too large", "The body is too large"),
    414: ("uri-too-long", "URI too long", "The request line is too long"),
    417: ("expectation-failed", "Expectation failed", "The Expect header is not 100-continue"),
    431: ("headers-too-large", "Headers too large", "The request's headers are too large"),
    500: (
        "internal-server-error",
        "Internal server error",
        "Something went wrong on our side; it has been logged",
    ),
    501: ("not-implemented", "Not implemented", "This transfer coding is not known here"),
}


def problem(slug: str, title: str, status: int, detail: str) -> Problem:
    """Build the problem whose stable type ends in `slug`."""
    if len(detail) > MAX_DETAIL:
        detail = detail[:MAX_DETAIL] + "…"
    return {"type": PROBLEM_PREFIX + slug, "title": title, "status": status, "detail": detail}


def http_problem(status: int, detail: str = "") -> Problem:
    """Build the problem of a request that was refused before our code was asked."""
    known = status if status in HTTP_PROBLEMS else 400 if status < 500 else 500
    slug, title, words = HTTP_PROBLEMS[known]
    return problem(slug, title, known, detail or words)


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
    """An event or a reference names a bucket that this service does not read for its sender."""

    status, slug, title = 403, "bucket-forbidden", "Bucket not allowed"


class CrossSite(RequestError):
    """A page of another site sent the request through its reader's browser."""

    status, slug, title = 403, "cross-site-request", "Cross-site request"


class ImageArchived(RequestError):
    """The object is in an archive of S3 (Glacier) and has to be restored before it can be read."""

    status, slug, title = 403, "image-archived", "Image archived"


class ModelNotFound(RequestError):
    """The path names a model that this service does not have; no event can."""

    status, slug, title = 404, "model-not-found", "Model not found"


class NotAcceptable(RequestError):
    """The caller wants a picture where there is no single one."""

    status, slug, title = 406, "not-acceptable", "Not acceptable"


class BatchTooLarge(RequestError):
    """Too many images in one request, or too many pixels in all of them."""

    status, slug, title = 413, "batch-too-large", "Batch too large"


class BodyUnsupported(RequestError):
    """The body's content type is none that the route takes."""

    status, slug, title = 415, "unsupported-media-type", "Unsupported media type"


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

    retry_after: int = 1  # seconds


class DependencyFailed(TryAgain):
    """S3 or SNS did not do its part."""

    status, slug, title = 502, "dependency-failed", "Dependency failed"


class CredentialsRefused(TryAgain):
    """AWS does not accept this service's credentials or clock, whatever the image."""

    status, slug, title = 503, "credentials-refused", "Credentials refused"


class NotReady(TryAgain):
    """The model is not warm yet."""

    status, slug, title = 503, "not-ready", "Not ready"


class Overloaded(TryAgain):
    """The wait for the processor, or for memory, is too long."""

    status, slug, title = 503, "overloaded", "Overloaded"

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after
