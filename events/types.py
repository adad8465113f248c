"""The words that processes share: event types, keys that are ours, what became of a message."""

import re
from enum import StrEnum

# In: the CloudEvents adapter for S3, https://github.com/cloudevents/spec adapters/aws-s3.md;
# the operation follows (Put, Post, Copy, CompleteMultipartUpload).
S3_OBJECT_CREATED = "com.amazonaws.s3.ObjectCreated:"
# In, too: Knative's IntegrationSource for SQS, whose events carry the message's body; the second
# name is that of its older releases.
# https://github.com/knative-extensions/eventing-integrations aws-sqs-source
SQS_MESSAGE_TYPES = ("dev.knative.eventing.aws-sqs", "dev.knative.connector.event.aws-sqs")
# Extension attributes that our source adds: which audit of the object this is, and how often SQS
# has handed the message out. Names are lower-case letters and digits.
GENERATION = "auditgeneration"
RECEIVE_COUNT = "receivecount"
# Of audit generations, each an audit of everything: nobody may write under ids of a far future.
MAX_GENERATION = 1000
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

# What we write ourselves, and how shelves should stand. In a bucket that holds any of it, keys that
# start so are ours: their notifications are of no photo, and to audit them would never end.
RESULTS = "results/"
PUBLISHED = "published/"
REFERENCES = "references/"
OUR_PREFIXES = (RESULTS, PUBLISHED, REFERENCES)

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
# An access point has such a name as its alias; its ARN cannot stand in s3://bucket/key.
BUCKET_NAME = re.compile(r"(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
BUCKET_MUST_BE = "the name of a bucket: 3 to 63 of a-z, 0-9, dots and hyphens"

# A bearer token that a header can hold, and a header's reader does not trim.
TOKEN = re.compile(r"[!-~]+")
TOKEN_MUST_BE = "ASCII without spaces and line breaks"


class Ignored(StrEnum):
    """What S3 and its clones announce that asks for no audit; by their own word if they have one.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-event-types-and-destinations.html
    """

    TEST_EVENT = "s3:TestEvent"  # a bucket's rule was set
    REMOVED = "ObjectRemoved"
    RESTORE = "ObjectRestore"
    TAGGING = "ObjectTagging"
    ACL = "ObjectAcl"
    EXPIRATION = "LifecycleExpiration"
    TRANSITION = "LifecycleTransition"
    TIERING = "IntelligentTiering"
    REPLICATION = "Replication"
    LOST = "ReducedRedundancyLostObject"
    ACCESSED = "ObjectAccessed"  # MinIO: somebody read it
    FOLDER = "folder"  # a key that ends in "/" and holds nothing, as consoles make them
    OURS = "ours"  # a result, a marker or a reference


class Reason(StrEnum):
    """Why a message is in the dead-letter queue."""

    EXHAUSTED = "exhausted"  # it kept failing until one receive was left
    UNKNOWN = "unknown"  # SQS moved it by itself after maxReceiveCount, and gives no reason
    REFUSED = "refused"  # the sink answered a 4xx that no retry mends
    UNREADABLE = "unreadable"  # not a notification we know
    UNRELATED = "unrelated"  # readable, and about something other than an object in S3
    UNCONFIRMED = "unconfirmed"  # SNS asks whether a subscription is wanted, and waits for it
