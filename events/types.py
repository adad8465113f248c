"""The words that processes share: event types, and why a message is a dead letter."""

from enum import StrEnum

# In: the CloudEvents adapter for S3, https://github.com/cloudevents/spec adapters/aws-s3.md;
# the operation follows (Put, Post, Copy, CompleteMultipartUpload).
S3_OBJECT_CREATED = "com.amazonaws.s3.ObjectCreated:"
# In, too: Knative's IntegrationSource for SQS, whose events carry the message's body; the second
# name is that of its older releases.
# https://github.com/knative-extensions/eventing-integrations aws-sqs-source
SQS_MESSAGE_TYPES = ("dev.knative.eventing.aws-sqs", "dev.knative.connector.event.aws-sqs")
# Out: one of the two for every image.
SHELF_AUDITED = "io.shelfwatch.shelf.audited"
IMAGE_REJECTED = "io.shelfwatch.image.rejected"

# Out of the monitor: what changed from photo to photo.
GAP_OPENED = "io.shelfwatch.gap.opened"
GAP_CLOSED = "io.shelfwatch.gap.closed"
GAP_CORRECTED = "io.shelfwatch.gap.corrected"
VIEW_SILENT = "io.shelfwatch.view.silent"
VIEW_BACK = "io.shelfwatch.view.back"

# The `dataschema` of each: the `$id` of the JSON Schema beside this file. The number grows with a
# change that may break a consumer; a new field is none, as consumers ignore what they do not know.
DATA_SCHEMAS = {
    SHELF_AUDITED: "urn:shelfwatch:schema:shelf.audited:1",
    IMAGE_REJECTED: "urn:shelfwatch:schema:image.rejected:1",
    GAP_OPENED: "urn:shelfwatch:schema:gap.opened:1",
    GAP_CLOSED: "urn:shelfwatch:schema:gap.closed:1",
    GAP_CORRECTED: "urn:shelfwatch:schema:gap.corrected:1",
    VIEW_SILENT: "urn:shelfwatch:schema:view.silent:1",
    VIEW_BACK: "urn:shelfwatch:schema:view.back:1",
}


class Reason(StrEnum):
    """Why a message is in the dead-letter queue."""

    EXHAUSTED = "exhausted"  # it kept failing until one receive was left
    UNKNOWN = "unknown"  # SQS moved it by itself after maxReceiveCount, and gives no reason
    REFUSED = "refused"  # the sink answered a 4xx that no retry mends
    UNREADABLE = "unreadable"  # not a notification we know
