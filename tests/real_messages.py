"""Messages that stores, bridges and tools really send, and what becomes of each.

The files are in tests/events: real shapes with invented names. Whatever is true of one upload is
the same in all of them, so that a test can put its own in its place.
"""

from __future__ import annotations

from dataclasses import dataclass

from conftest import EVENTS

from events.types import Ignored, Reason

BUCKET = "shelves"
CAMERA = "cam-2"
PHOTO = f"store-17/{CAMERA}/café + bar.jpg"
VERSION_ID = "096fKKXTRTtl3on89fVO.nfljtsv6qko"
ETAG = "d41d8cd98f00b204e9800998ecf8427e"
SIZE = 1830211


@dataclass(frozen=True, kw_only=True)
class Message:
    """What becomes of one message."""

    audited: tuple[str, ...] = ()  # keys of photos that are there
    rejected: tuple[str, ...] = ()  # keys of photos that are not
    ignored: tuple[Ignored, ...] = ()
    letters: tuple[tuple[Reason, str], ...] = ()  # reason, and words of its detail
    versioned: bool = True  # the bucket


def audited(*keys: str, versioned: bool = True) -> Message:
    return Message(audited=keys or (PHOTO,), versioned=versioned)


def ignored(kind: Ignored) -> Message:
    return Message(ignored=(kind,))


def given_up(reason: Reason, words: str) -> Message:
    return Message(letters=((reason, words),))


MESSAGES = {
    # S3 itself, directly, through SNS, through EventBridge
    "s3_put": audited(),  # record version 2.6
    "s3_copy_2.4": audited(),  # its slashes encoded, its name with the prefix of the rule's
    "s3_put_null_version_2.3": audited(versioned=False),
    "s3_put_unversioned_2.1": audited(versioned=False),
    "s3_put_through_sns": audited(),
    "s3_put_through_eventbridge": audited(),
    "s3_put_through_eventbridge_and_sns": audited(),
    "s3_byte_order_mark": audited(),
    "s3_other_alphabets": audited(
        "\u3000渋谷\u00a0店/cam-2/\N{WOMAN}\u200d\N{SHOPPING TROLLEY} क्\u200dष.jpg"
    ),
    "s3_two_records_and_a_delete": Message(
        audited=(PHOTO, "store-17/cam-2/0816.jpg"), ignored=(Ignored.REMOVED,)
    ),
    "s3_good_and_bad_records": Message(
        audited=(PHOTO,),
        ignored=(Ignored.REMOVED,),
        letters=((Reason.UNREADABLE, "`eventTime` of the S3 record must be a time"),),
    ),
    "s3_gone": Message(rejected=("store-17/cam-2/never-uploaded.jpg",)),
    "s3_test_event": ignored(Ignored.TEST_EVENT),
    "s3_test_event_through_sns": ignored(Ignored.TEST_EVENT),
    "s3_delete": ignored(Ignored.REMOVED),
    "s3_delete_marker": ignored(Ignored.REMOVED),
    "s3_delete_through_eventbridge": ignored(Ignored.REMOVED),
    "s3_expired": ignored(Ignored.EXPIRATION),
    "s3_restored": ignored(Ignored.RESTORE),
    "s3_tagged": ignored(Ignored.TAGGING),
    "eventbridge_tags_added": ignored(Ignored.TAGGING),
    "s3_folder": ignored(Ignored.FOLDER),
    "eventbridge_folder": ignored(Ignored.FOLDER),
    "s3_result_of_ours": ignored(Ignored.OURS),
    "s3_marker_of_ours": ignored(Ignored.OURS),
    # Its clones
    "s3_size_as_text": audited(versioned=False),
    "s3_no_size": audited(versioned=False),
    "s3_no_etag": audited(versioned=False),
    "minio_put": audited(versioned=False),  # no region, slashes encoded
    "minio_accessed": ignored(Ignored.ACCESSED),
    "ceph_multipart_size_0": audited(versioned=False),  # no region, no tag, key not encoded
    "noobaa_put": audited(versioned=False),  # no region, half a tag, size 0 as a text
    "clone_key_not_encoded": audited("store-17/cam-2/100%.jpg?%FF", versioned=False),
    "eventbridge_key_encoded": audited(),
    # What is none of these
    "text": given_up(Reason.UNREADABLE, "The body must be JSON, got 'hello"),
    "noobaa_test": given_up(Reason.UNREADABLE, "must be a JSON object, got 'test notification"),
    "sns_text": given_up(Reason.UNREADABLE, "The body must be JSON, got 'hello'"),
    "s3_no_records": given_up(Reason.UNREADABLE, "`Records` must be a list"),
    "s3_version_3": given_up(Reason.UNREADABLE, "version '3.0'"),
    "s3_unknown_operation": given_up(Reason.UNRELATED, "ObjectDreamt"),
    "ses_receipt": given_up(Reason.UNRELATED, "'aws:ses'"),
    "sqs_batch_of_lambda": given_up(Reason.UNREADABLE, "`eventName` of the S3 record"),
    "eventbridge_cloudtrail": given_up(Reason.UNRELATED, "'AWS API Call via CloudTrail'"),
    "eventbridge_scheduled": given_up(Reason.UNRELATED, "'Scheduled Event' of 'aws.events'"),
    "sns_subscription_confirmation": given_up(
        Reason.UNCONFIRMED, "aws sns confirm-subscription --topic-arn arn:aws:sns:eu-central-1"
    ),
    "sns_unsubscribe_confirmation": given_up(Reason.UNCONFIRMED, "UnsubscribeConfirmation of arn"),
}
# CloudEvents as others post them to the function: status, and whether the good one is audited.
REQUESTS = {
    "http_null_attributes": 204,
    "http_json_spelt_otherwise": 204,
    "http_binary_quoted": 204,
    "http_data_base64": 204,
    "http_byte_order_mark": 204,
    "http_batch_with_one_bad": 400,
    "http_sqs_message_with_one_bad": 400,
}


def text_of(name: str) -> str:
    """Read a message as it is sent."""
    return (EVENTS / f"{name}.json").read_text()
