"""What S3 never announced is found and put on the queue, once."""

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Aws, queue_state
from notifications import events_from_body

import events.repair.photos
import events.repair.sweep
from events.outbox import Outbox, Stored
from events.repair.commands import DONE, FAILED, MISUSED, POSTPONED, Window
from events.repair.photos import Photo, Watched, photos, watched_by
from events.repair.sweep import AuditedBy, Missing, Summary, Sweep
from events.s3_notification import object_from_event
from events.sqs import queue_arn
from events.types import BUCKET_MUST_BE, GENERATION

BAD, GOOD = (f"sha256:{digit * 64}" for digit in "ab")
ODD_KEYS = [
    "store-17/cam-2/café + bar.jpg",
    "50%2B.jpg",
    "日本/棚.jpg",
    "a&b=c?d.jpg",
    "/leading.jpg",
]


def put(aws: Aws, *keys: str, data: bytes = b"photo") -> None:
    for key in keys:
        aws.s3.put_object(Bucket=aws.resources.bucket, Key=key, Body=data)


def bodies(aws: Aws) -> list[str]:
    """Take all that is on the queue: to the sweep, S3 dropped these notifications."""
    found: list[str] = []
    url = aws.resources.queue_url
    while messages := aws.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        found += [message["Body"] for message in messages]
        for message in messages:
            aws.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


def announced(aws: Aws) -> dict[str, tuple[str, int]]:
    """Take the events on the queue: the key and the generation of each id."""
    return {
        event.get_id(): (object_from_event(event).key, event.get_extension(GENERATION))
        for body in bodies(aws)
        for event in events_from_body(body)
    }


def outbox(aws: Aws) -> Outbox:
    return Outbox(aws.s3, aws.resources.results_bucket)


def audit(
    aws: Aws, found: dict[str, tuple[str, int]], model: str = GOOD, revision: str = "r-1"
) -> None:
    """Work off events as the function does, as far as a sweep can see it."""
    for name in found:
        told = {"digest": model, "input": [896, 896], "revision": revision}
        outbox(aws).put(name, Stored({"model": told}))


def sweep(aws: Aws, stop: threading.Event | None = None, **changes: Any) -> Summary:
    """Sweep the bucket; everything counts, however young, and is sent."""
    how = {name: changes.pop(name) for name in ("limit", "send") if name in changes}
    settings = {
        "s3": aws.s3,
        "sqs": aws.sqs,
        "queue_url": aws.resources.queue_url,
        "bucket": aws.resources.bucket,
        "our_buckets": frozenset({aws.resources.results_bucket}),
        "wanted": Missing(outbox(aws)),
        "watched": [Watched()],
        "window": Window(),
        **changes,
    }
    summary = Summary()
    run = Sweep(**settings).run
    run(stop or threading.Event(), summary, **{"send": True, **how})
    return summary


def test_an_empty_bucket_has_nothing_to_find(aws: Aws) -> None:
    assert sweep(aws) == Summary(0, 0, 0, 0)


def test_a_version_that_is_found_has_the_id_of_its_notification(aws: Aws) -> None:
    put(aws, *ODD_KEYS)
    by_s3 = announced(aws)
    assert {key for key, _ in by_s3.values()} == set(ODD_KEYS)
    assert sweep(aws).sent == len(ODD_KEYS)
    assert announced(aws) == by_s3


def test_a_null_version_that_is_found_has_the_id_of_its_notification(aws: Aws) -> None:
    """What is uploaded while versioning is suspended has the version "null"."""
    aws.s3.put_bucket_versioning(
        Bucket=aws.resources.bucket, VersioningConfiguration={"Status": "Suspended"}
    )
    put(aws, *ODD_KEYS)
    by_s3 = announced(aws)
    assert sweep(aws).sent == len(by_s3) == len(ODD_KEYS)
    assert announced(aws) == by_s3
    audit(aws, by_s3)
    assert sweep(aws).sent == 0


def test_a_bucket_without_versions_is_swept_too(aws: Aws) -> None:
    bucket = f"{aws.resources.bucket}-plain"
    aws.s3.create_bucket(Bucket=bucket)
    arn = queue_arn(aws.sqs, aws.resources.queue_url)
    rule = {"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}
    aws.s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [rule]}
    )
    for key in ODD_KEYS:
        aws.s3.put_object(Bucket=bucket, Key=key, Body=b"photo")
    by_s3 = announced(aws)
    assert len(by_s3) == len(ODD_KEYS)
    sweep(aws, bucket=bucket)
    assert announced(aws) == by_s3
    audit(aws, by_s3)
    assert sweep(aws, bucket=bucket).sent == 0


def test_what_a_sweep_sent_is_not_sent_again_once_it_was_audited(aws: Aws) -> None:
    put(aws, "a.jpg", "b.jpg", "c.jpg")
    bodies(aws)
    assert sweep(aws) == Summary(3, 3, 3, 3)
    audit(aws, dict([announced(aws).popitem()]))
    assert sweep(aws) == Summary(3, 3, 2, 2)
    audit(aws, announced(aws))
    assert sweep(aws) == Summary(3, 3, 0, 0)
    assert queue_state(aws) == (0, 0)


def test_a_key_may_hold_a_line_break(aws: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    put(aws, "new\nline.jpg")
    by_s3 = announced(aws)
    assert [key for key, _ in by_s3.values()] == ["new\nline.jpg"]
    sweep(aws)
    assert announced(aws) == by_s3
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_every_version_was_an_upload_and_a_delete_marker_is_none(aws: Aws) -> None:
    put(aws, "a.jpg", data=b"first")
    put(aws, "a.jpg", data=b"second")
    aws.s3.delete_object(Bucket=aws.resources.bucket, Key="a.jpg")
    bodies(aws)
    assert sweep(aws).sent == 2
    assert [key for key, _ in announced(aws).values()] == ["a.jpg", "a.jpg"]


def test_a_dry_run_lists_and_sends_nothing(aws: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    put(aws, 'a "b".jpg')
    bodies(aws)
    assert sweep(aws, send=False) == Summary(1, 1, 1, 0)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(f'  "s3://{aws.resources.bucket}/a \\"b\\".jpg"  generation 0')
    assert queue_state(aws) == (0, 0)


def test_only_what_is_asked_for_is_swept(aws: Aws) -> None:
    """One bucket for the whole table: nothing is audited, so that each row finds it as it was."""
    put(aws, "store-1/a.jpg", "store-1/b.txt", "store-2/c.JPG")
    bodies(aws)
    quarter = timedelta(minutes=15)
    table: list[tuple[dict[str, Any], set[str]]] = [
        ({}, {"store-1/a.jpg", "store-1/b.txt", "store-2/c.JPG"}),
        ({"prefix": "store-1/"}, {"store-1/a.jpg", "store-1/b.txt"}),
        ({"prefix": "store-3/"}, set()),
        ({"watched": [Watched(suffix=".jpg")]}, {"store-1/a.jpg"}),
        (
            {"watched": [Watched("store-2/", ".JPG"), Watched("store-1/", ".txt")]},
            {"store-1/b.txt", "store-2/c.JPG"},
        ),
        ({"window": Window(older_than=quarter)}, set()),
        ({"window": Window(since=quarter), "prefix": "store-2/"}, {"store-2/c.JPG"}),
    ]
    for changes, keys in table:
        sweep(aws, **changes)
        assert {key for key, _ in announced(aws).values()} == keys, changes


def test_our_own_results_are_no_photos(aws: Aws) -> None:
    put(aws, "results/0.json", "published/0", "a.jpg")
    bodies(aws)
    sweep(aws, our_buckets=frozenset({aws.resources.bucket}))
    assert {key for key, _ in announced(aws).values()} == {"a.jpg"}


def test_references_beside_the_photos_are_no_photos(
    aws: Aws, run_command: Callable[..., tuple[int, str]]
) -> None:
    put(aws, "references/store-1/cam-1.json", "a.jpg")
    bodies(aws)
    arguments = ("--send", "--older-than", "0s")
    own = {**settings(aws), "REFERENCES_BUCKET": aws.resources.bucket}
    code, printed = run_command(events.repair.sweep, aws.endpoint_url, *arguments, **own)
    assert (code, "2 listed, 1 looked at, 1 to be audited, 1 sent" in printed) == (DONE, True)
    assert {key for key, _ in announced(aws).values()} == {"a.jpg"}


def test_what_is_archived_is_listed_and_left(aws: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    """The function cannot read it: each sweep would make a dead letter of it."""
    put(aws, "a.jpg", "audited.jpg")
    audit(aws, {name: one for name, one in announced(aws).items() if one[0] == "audited.jpg"})
    for storage_class in ("GLACIER", "DEEP_ARCHIVE", "GLACIER_IR", "STANDARD_IA"):
        aws.s3.put_object(
            Bucket=aws.resources.bucket,
            Key=f"{storage_class}.jpg",
            Body=b"photo",
            StorageClass=storage_class,
        )
    bodies(aws)
    # Nor do those count that are left: as many others are sent.
    summary = sweep(aws, limit=3)
    assert summary == Summary(listed=6, looked_at=6, missing=3, sent=3, archived=2)
    assert str(summary).endswith("3 sent, 2 archived and left")
    keys = {key for key, _ in announced(aws).values()}
    assert keys == {"a.jpg", "GLACIER_IR.jpg", "STANDARD_IA.jpg"}
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.endswith("archived: restore it first") for line in lines) == 2


@pytest.mark.parametrize(
    ("told", "archived"),
    [
        ({}, False),  # some stores tell none
        ({"StorageClass": "GLACIER"}, True),
        ({"StorageClass": "GLACIER", "RestoreStatus": {"IsRestoreInProgress": True}}, True),
        (
            {
                "StorageClass": "GLACIER",
                "RestoreStatus": {"IsRestoreInProgress": False, "RestoreExpiryDate": "…"},
            },
            False,
        ),
    ],
)
def test_what_was_restored_can_be_read(told: dict[str, object], archived: bool) -> None:
    version = {"Key": "a.jpg", "VersionId": "1", "ETag": '"e"', "Size": 1, "LastModified": "…"}
    asked: dict[str, object] = {}

    def paginate(**request: object) -> list[dict[str, object]]:
        asked.update(request)
        return [{"Versions": [version | told]}]

    s3: Any = SimpleNamespace(get_paginator=lambda _: SimpleNamespace(paginate=paginate))
    ((photo,),) = photos(s3, "shelves", "")
    assert photo.archived == archived
    assert asked["OptionalObjectAttributes"] == ["RestoreStatus"]


def test_pages_follow_each_other_at_odd_keys(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events.repair.photos, "PAGE_SIZE", 2)
    put(aws, *ODD_KEYS, *ODD_KEYS)
    pages: list[list[Photo]] = list(photos(aws.s3, aws.resources.bucket, ""))
    assert max(map(len, pages)) == 2
    keys = [photo.s3_object.key for page in pages for photo in page]
    assert sorted(keys) == sorted(ODD_KEYS * 2)
    assert len({photo.s3_object for page in pages for photo in page}) == len(ODD_KEYS) * 2


def test_a_sweep_ends_at_its_limit_and_when_told(aws: Aws) -> None:
    put(aws, *(f"{number}.jpg" for number in range(13)))
    bodies(aws)
    assert sweep(aws, limit=11).sent == 11
    stop = threading.Event()
    stop.set()
    assert sweep(aws, stop) == Summary()


def test_what_a_model_audited_last_is_audited_again(aws: Aws) -> None:
    put(aws, "bad.jpg", "good.jpg", "new.jpg")
    bodies(aws)
    sweep(aws)
    first = announced(aws)
    for name, (key, _) in first.items():
        if key != "new.jpg":
            audit(aws, {name: (key, 0)}, BAD if key == "bad.jpg" else GOOD)
    again = AuditedBy(outbox(aws), {"digest": BAD})
    assert sweep(aws, wanted=again).sent == 1
    second = announced(aws)
    assert list(second.values()) == [("bad.jpg", 1)]
    assert not set(second) & set(first)
    # Not worked off yet: the same ids once more. Worked off by another model: nothing.
    sweep(aws, wanted=again)
    assert announced(aws) == second
    audit(aws, second, GOOD)
    assert sweep(aws, wanted=again).sent == 0
    # The other model proves bad, too: its audits, and no older ones, get the next generation.
    assert sweep(aws, wanted=AuditedBy(outbox(aws), {"digest": GOOD})).sent == 2
    assert sorted(announced(aws).values()) == [("bad.jpg", 2), ("good.jpg", 1)]


def test_two_revisions_of_one_model_are_told_apart(aws: Aws) -> None:
    put(aws, "bad.jpg", "good.jpg")
    bodies(aws)
    sweep(aws)
    for name, (key, _) in announced(aws).items():
        audit(aws, {name: (key, 0)}, revision="r-2" if key == "bad.jpg" else "r-1")
    for wanted, keys in [
        ({"revision": "r-2"}, ["bad.jpg"]),
        ({"digest": GOOD, "revision": "r-2"}, ["bad.jpg"]),
        ({"digest": BAD, "revision": "r-2"}, []),
        ({"digest": GOOD}, ["bad.jpg", "good.jpg"]),
    ]:
        sweep(aws, wanted=AuditedBy(outbox(aws), wanted))
        assert sorted(key for key, _ in announced(aws).values()) == keys


def test_a_rejected_image_has_no_model_and_is_left(aws: Aws) -> None:
    put(aws, "broken.jpg")
    bodies(aws)
    sweep(aws)
    for name in announced(aws):
        outbox(aws).put(name, Stored({"image": {}, "reason": {}}))
    assert sweep(aws, wanted=AuditedBy(outbox(aws), {"digest": BAD})).sent == 0


FILTER = {
    "Key": {
        "FilterRules": [{"Name": "prefix", "Value": "a b/"}, {"Name": "suffix", "Value": ".jpg"}]
    }
}


FILTERED = {"Events": ["s3:ObjectCreated:Put"], "Filter": FILTER}
ALL = {"Events": ["s3:ObjectCreated:*"]}


@pytest.mark.parametrize(
    ("ours", "topics", "others", "bridge", "watched"),
    [
        ([], [], [], False, [Watched()]),
        ([ALL], [], [], False, [Watched()]),
        ([FILTERED], [], [], False, [Watched("a b/", ".jpg")]),
        ([{**FILTERED, "Events": ["s3:ObjectRemoved:*"]}], [], [], False, [Watched()]),
        ([], [FILTERED], [], False, [Watched("a b/", ".jpg")]),  # the topic leads to our queue
        ([], [], [FILTERED], False, [Watched("a b/", ".jpg")]),  # that queue sends on to ours
        # Other listeners watch what need not be photos, or not all of them.
        ([FILTERED], [ALL], [ALL], True, [Watched("a b/", ".jpg")]),
        ([], [FILTERED], [ALL], True, [Watched("a b/", ".jpg")]),
        ([], [], [FILTERED], True, [Watched()]),  # EventBridge tells no filter
    ],
)
def test_the_buckets_rules_say_what_they_announce_to_the_queue(
    aws: Aws, ours: list[Any], topics: list[Any], others: list[Any], bridge: bool, watched: Any
) -> None:
    arn, dlq = (queue_arn(aws.sqs, url) for url in (aws.resources.queue_url, aws.resources.dlq_url))
    rules: dict[str, Any] = {
        "QueueConfigurations": [
            *({"Id": f"ours-{n}", "QueueArn": arn, **rule} for n, rule in enumerate(ours)),
            *({"Id": f"others-{n}", "QueueArn": dlq, **rule} for n, rule in enumerate(others)),
        ],
        "TopicConfigurations": [{"TopicArn": aws.resources.topic_arn, **rule} for rule in topics],
    }
    rules |= {"EventBridgeConfiguration": {}} if bridge else {}
    s3: Any = SimpleNamespace(get_bucket_notification_configuration=lambda Bucket: rules)
    assert watched_by(s3, aws.resources.bucket, arn) == watched


def test_a_filter_is_read_as_s3_tells_it(aws: Aws) -> None:
    arn = queue_arn(aws.sqs, aws.resources.queue_url)
    aws.s3.put_bucket_notification_configuration(
        Bucket=aws.resources.bucket,
        NotificationConfiguration={"QueueConfigurations": [{"QueueArn": arn, **FILTERED}]},
    )
    assert watched_by(aws.s3, aws.resources.bucket, arn) == [Watched("a b/", ".jpg")]


def test_a_bucket_that_fails_holds_up_no_other(
    aws: Aws, run_command: Callable[..., tuple[int, str]]
) -> None:
    put(aws, "a.jpg")
    bodies(aws)
    given = settings(aws) | {"EVENTS_BUCKETS": f"nowhere,{aws.resources.bucket}"}
    arguments = ("--send", "--older-than", "0s")
    code, printed = run_command(events.repair.sweep, aws.endpoint_url, *arguments, **given)
    assert (code, queue_state(aws)) == (FAILED, (1, 0))
    assert "1 to be audited, 1 sent" in printed


def settings(aws: Aws) -> dict[str, str]:
    return {
        "EVENTS_BUCKETS": f"{aws.resources.bucket}, ",
        "RESULTS_BUCKET": aws.resources.results_bucket,
        "QUEUE_URL": aws.resources.queue_url,
    }


def test_the_command_lists_first_and_sends_when_told(
    aws: Aws, run_command: Callable[..., tuple[int, str]]
) -> None:
    put(aws, "a.jpg")
    bodies(aws)
    young = run_command(events.repair.sweep, aws.endpoint_url, **settings(aws))
    assert young[0] == DONE
    assert "1 listed, 0 looked at, 0 to be audited, 0 sent" in young[1]
    code, printed = run_command(
        events.repair.sweep, aws.endpoint_url, "--older-than", "0s", **settings(aws)
    )
    assert (code, queue_state(aws)) == (DONE, (0, 0))
    assert "1 listed, 1 looked at, 1 to be audited, 0 sent\nA dry run" in printed
    code, printed = run_command(
        events.repair.sweep,
        aws.endpoint_url,
        *("--send", "--older-than", "0s"),
        **settings(aws),
        AUDIT_GENERATION="3",
    )
    assert code == DONE
    assert [generation for _, generation in announced(aws).values()] == [3]


def test_nothing_is_sent_while_too_much_waits(
    aws: Aws, run_command: Callable[..., tuple[int, str]]
) -> None:
    """It has no result because it waits: each sweep would add it once more."""
    put(aws, "a.jpg", "b.jpg")
    arguments = ("--send", "--older-than", "0s", "--max-waiting", "1")
    code, _ = run_command(events.repair.sweep, aws.endpoint_url, *arguments, **settings(aws))
    assert (code, queue_state(aws)) == (POSTPONED, (2, 0))


@pytest.mark.parametrize("name", ["EVENTS_BUCKETS", "RESULTS_BUCKET", "QUEUE_URL"])
def test_what_is_missing_in_aws_fails_and_is_no_empty_answer(
    aws: Aws, run_command: Callable[..., tuple[int, str]], name: str
) -> None:
    put(aws, "a.jpg")
    missing = {
        **settings(aws),
        name: f"{aws.resources.queue_url if name == 'QUEUE_URL' else ''}nowhere",
    }
    arguments = ("--send", "--older-than", "0s", "--suffix", ".jpg")
    code, _ = run_command(events.repair.sweep, aws.endpoint_url, *arguments, **missing)
    assert code == FAILED


@pytest.mark.parametrize(
    ("arguments", "env", "words"),
    [
        ([], {"QUEUE_URL": ""}, "`--queue-url` or QUEUE_URL must be set"),
        ([], {"RESULTS_BUCKET": ""}, "`--results-bucket` or RESULTS_BUCKET must be set"),
        ([], {"EVENTS_BUCKETS": " ,"}, "`--bucket` or EVENTS_BUCKETS must be set"),
        ([], {"EVENTS_BUCKETS": "photos, s3://b"}, f"EVENTS_BUCKETS must be {BUCKET_MUST_BE}"),
        (["--bucket", "s3://b"], {}, f"must be {BUCKET_MUST_BE}, got 's3://b'"),
        (
            [],
            {"RESULTS_BUCKET": "s3://r"},
            f"`--results-bucket` or RESULTS_BUCKET must be {BUCKET_MUST_BE}",
        ),
        ([], {"AWS_DEFAULT_REGION": ""}, "`AWS_DEFAULT_REGION` must be set"),
        (
            [],
            {"AUDIT_GENERATION": "one"},
            "`AUDIT_GENERATION` must be a whole number from 0 to 1000, got 'one'",
        ),
        ([], {"REFERENCES_BUCKET": "s3://r"}, f"`REFERENCES_BUCKET` must be {BUCKET_MUST_BE}"),
        (["--again"], {}, "`--again` must come with --model or --revision"),
        (["--revision", "r"], {}, "`--again` must come with --model or --revision"),
        (["--model", BAD], {}, "`--again` must come with --model or --revision"),
        (["--again", "--model", "v2"], {}, "`--model` must be sha256: and 64 hex digits, got 'v2'"),
        (["--since", "5m"], {}, "nothing lies between"),
    ],
)
def test_an_odd_argument_is_named(
    run_command: Callable[..., tuple[int, str]],
    arguments: list[str],
    env: dict[str, str],
    words: str,
) -> None:
    buckets = {"EVENTS_BUCKETS": "photos", "RESULTS_BUCKET": "results"}
    given = {**buckets, "QUEUE_URL": "http://127.0.0.1:9/q"}
    code, printed = run_command(
        events.repair.sweep, "http://127.0.0.1:9", *arguments, **{**given, **env}
    )
    assert code == MISUSED
    assert words in printed


def test_the_body_is_what_s3_would_have_written(aws: Aws) -> None:
    put(aws, "a b.jpg")
    by_s3 = json.loads(bodies(aws)[0])["Records"][0]
    sweep(aws)
    ours = json.loads(bodies(aws)[0])["Records"][0]
    for name in ("key", "size", "eTag", "versionId"):
        assert ours["s3"]["object"][name] == by_s3["s3"]["object"][name]
    assert ours["s3"]["bucket"]["name"] == by_s3["s3"]["bucket"]["name"]
    assert ours["awsRegion"] == by_s3["awsRegion"]
