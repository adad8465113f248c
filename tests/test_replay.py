"""Dead letters back on the queue: which, in what order, and that nothing is lost on the way."""

import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from conftest import ROOT, Aws, queue_state
from notifications import events_from_body

import events.repair.replay
from events.repair.commands import DONE, FAILED, INTERRUPTED, MISUSED, Window
from events.repair.replay import Replay, dead_letter_queue_of
from events.repair.selection import REPLAYED, DeadLetter, Selection
from events.s3_notification import S3Object, notification_body
from events.source.dead_letters import DeadLetters, Letter
from events.types import BUCKET_MUST_BE, Reason
from local.aws import MAX_RECEIVE_COUNT, aws_env

EXHAUSTED, UNKNOWN, REFUSED, UNREADABLE, UNRELATED, UNCONFIRMED = Reason

NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulator has one server: a poll need not wait for others."""
    monkeypatch.setattr(events.repair.replay, "WAIT_SECONDS", 0)


DETAILS = {
    UNREADABLE: "The body is not JSON",
    REFUSED: "HTTP 403",
    EXHAUSTED: "HTTP 503",
    UNRELATED: "`detail-type` must be 'Object Created'",
    UNCONFIRMED: "SubscriptionConfirmation",
}


def body(key: str = "store-17/cam-2/0815.jpg", bucket: str = "shelves") -> str:
    return notification_body(
        S3Object(bucket=bucket, key=key, version_id="v1", etag="e1", size=1), NOW, "eu-central-1"
    )


def bury(aws: Aws, text: str, reason: Reason, given_up_at: datetime = NOW) -> None:
    """Put a message into the dead-letter queue as the source does, or as SQS does by itself."""
    if reason == UNKNOWN:
        _let_sqs_move(aws, text)
        return
    facts = {
        "reason": reason,
        "detail": DETAILS[reason],
        "source_message_id": "9f1d7f6e-7b53-4a3b-8f4b-6e1b3f7a3f10",
        "receive_count": "7",
        "given_up_at": given_up_at.isoformat(timespec="seconds"),
    }
    aws.sqs.send_message(
        QueueUrl=aws.resources.dlq_url,
        MessageBody=text,
        MessageAttributes={
            name: {"DataType": "String", "StringValue": value} for name, value in facts.items()
        },
    )


def _let_sqs_move(aws: Aws, text: str) -> None:
    url = aws.resources.queue_url
    aws.sqs.send_message(QueueUrl=url, MessageBody=text)
    for _ in range(MAX_RECEIVE_COUNT):
        aws.sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)
    assert "Messages" not in aws.sqs.receive_message(QueueUrl=url)


def replay(aws: Aws, sqs: Any = None, selection: Selection = Selection()) -> Replay:  # noqa: B008 - frozen
    resources = aws.resources
    return Replay(sqs or aws.sqs, resources.dlq_url, resources.queue_url, selection)


def run(aws: Aws, selection: Selection = Selection(), **how: Any) -> dict[str, int]:  # noqa: B008 - frozen
    """Replay and return how many were sent, by reason."""
    summary = replay(aws, selection=selection).run(threading.Event(), **{"send": True, **how})
    return dict(summary.sent)


def bodies(aws: Aws, queue_url: str) -> list[str]:
    """Take all that is on a queue."""
    found: list[str] = []
    while messages := aws.sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10).get(
        "Messages"
    ):
        found += [message["Body"] for message in messages]
    return sorted(found)


class Sqs:
    """The emulator's SQS with one operation that answers otherwise."""

    def __init__(self, sqs: object, **operations: object) -> None:
        self._sqs = sqs
        self._operations = operations

    def __getattr__(self, name: str) -> object:
        return self._operations.get(name) or getattr(self._sqs, name)


def unreachable(**_: object) -> None:
    raise ClientError({"Error": {"Code": "ServiceUnavailable"}}, "DeleteMessageBatch")


def test_an_empty_queue_is_replayed_in_no_time(aws: Aws) -> None:
    assert run(aws) == {}
    assert queue_state(aws) == (0, 0)


def test_the_reasons_are_told_apart(aws: Aws) -> None:
    for number, reason in enumerate(Reason, 1):
        for copy in range(number):
            text = body(f"{reason}/{copy}") if reason in REPLAYED else f"no notification {copy}"
            bury(aws, text, reason)
    summary = replay(aws).run(threading.Event())
    assert dict(summary.found) == {reason: number for number, reason in enumerate(Reason, 1)}
    assert [line.split() for line in summary.table().splitlines()] == [
        ["reason", "found", "selected", "sent"],
        ["exhausted", "1", "1", "0"],
        ["unknown", "2", "2", "0"],
        ["refused", "3", "3", "0"],
        ["unreadable", "4", "0", "0"],
        ["unrelated", "5", "0", "0"],
        ["unconfirmed", "6", "0", "0"],
    ]


def test_a_dry_run_lists_all_and_moves_nothing(
    aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    bury(aws, body("line\nbreak.jpg"), EXHAUSTED)
    bury(aws, "hello", UNREADABLE)
    assert run(aws, send=False) == {}
    lines = sorted(capsys.readouterr().out.splitlines())
    time = NOW.isoformat(timespec="seconds")
    assert lines == [
        f'keep  unreadable   {time}  "hello"  The body is not JSON',
        f'send  exhausted    {time}  "s3://shelves/line\\nbreak.jpg"  HTTP 503',
    ]
    assert queue_state(aws) == (0, 0)
    assert queue_state(aws, aws.resources.dlq_url) == (2, 0)


def test_what_is_sent_is_unchanged_and_what_is_kept_is_given_back(aws: Aws) -> None:
    readable = [f" {body('a.jpg')}\n", body("日本 + %.jpg")]
    for text in readable:
        bury(aws, text, REFUSED)
    bury(aws, "hello", UNREADABLE)
    assert run(aws) == {REFUSED: 2}
    assert queue_state(aws, aws.resources.dlq_url) == (1, 0)
    assert bodies(aws, aws.resources.queue_url) == sorted(readable)
    assert bodies(aws, aws.resources.dlq_url) == ["hello"]


def test_twice_is_safe(aws: Aws) -> None:
    bury(aws, body(), EXHAUSTED)
    bury(aws, "hello", UNREADABLE)
    assert run(aws) == {EXHAUSTED: 1}
    assert run(aws) == {}
    assert queue_state(aws) == (1, 0)
    assert queue_state(aws, aws.resources.dlq_url) == (1, 0)


OLD = timedelta(hours=3)
LETTERS = {
    "exhausted-old": (body("store-1/a.jpg"), EXHAUSTED, NOW - OLD),
    "refused": (body("store-1/b.jpg"), REFUSED, NOW),
    "other-bucket": (body("store-2/c.jpg", "backroom"), EXHAUSTED, NOW),
    "unknown": (body("store-2/d.jpg"), UNKNOWN, NOW),
    "unreadable": ("hello", UNREADABLE, NOW),
}


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        (Selection(), {"exhausted-old", "refused", "other-bucket", "unknown"}),
        (Selection(reasons=frozenset()), set()),
        (Selection(reasons=frozenset({UNKNOWN})), {"unknown"}),
        (Selection(reasons=frozenset({UNREADABLE, REFUSED})), {"unreadable", "refused"}),
        (Selection(bucket="backroom"), {"other-bucket"}),
        (Selection(prefix="store-1/"), {"exhausted-old", "refused"}),
        (Selection(reasons=frozenset(Reason), prefix="hello"), set()),
        (Selection(bucket="shelves", prefix="store-2/"), {"unknown"}),
        (
            Selection(window=Window(since=timedelta(hours=1))),
            {"refused", "other-bucket", "unknown"},
        ),
        (Selection(window=Window(older_than=timedelta(hours=1))), {"exhausted-old"}),
    ],
)
def test_only_what_is_asked_for_is_selected(selection: Selection, names: set[str]) -> None:
    letters = {name: letter(*facts) for name, facts in LETTERS.items()}
    assert {name for name, found in letters.items() if selection.holds(found)} == names


def letter(text: str, reason: str, given_up_at: datetime) -> DeadLetter:
    """A dead letter as it is received; when SQS moved it, there is only the time it was sent."""
    facts = {} if reason == UNKNOWN else {"reason": reason, "given_up_at": given_up_at.isoformat()}
    return DeadLetter.from_message(
        {
            "Body": text,
            "MessageId": "m",
            "ReceiptHandle": "r",
            "Attributes": {"SentTimestamp": str(int(given_up_at.timestamp() * 1000))},
            "MessageAttributes": {
                name: {"DataType": "String", "StringValue": value} for name, value in facts.items()
            },
        }
    )


@pytest.mark.parametrize("reason", ["", "bored", "EXHAUSTED"])
def test_a_reason_that_is_none_of_the_sources_is_unknown(reason: str) -> None:
    assert letter(body(), reason, NOW).reason == UNKNOWN


def test_more_than_a_batch_is_replayed_up_to_the_limit(aws: Aws) -> None:
    keys = [f"{number}.jpg" for number in range(25)]
    for key in keys:
        bury(aws, body(key), EXHAUSTED)
    assert run(aws, limit=13) == {EXHAUSTED: 13}
    assert queue_state(aws, aws.resources.dlq_url) == (12, 0)
    assert run(aws) == {EXHAUSTED: 12}
    assert bodies(aws, aws.resources.queue_url) == sorted(map(body, keys))


def test_a_crash_between_send_and_delete_gives_a_duplicate_with_the_same_id(aws: Aws) -> None:
    bury(aws, body(), EXHAUSTED)
    with pytest.raises(ClientError):
        replay(aws, Sqs(aws.sqs, delete_message_batch=unreachable)).run(
            threading.Event(), send=True
        )
    assert queue_state(aws, aws.resources.dlq_url) == (1, 0)
    assert run(aws) == {EXHAUSTED: 1}
    first, second = bodies(aws, aws.resources.queue_url)
    (event,), (again,) = events_from_body(first), events_from_body(second)
    assert event.get_id() == again.get_id()


def test_what_the_queue_does_not_take_stays(aws: Aws) -> None:
    """SQS answers 200 with failures inside."""
    bury(aws, body("a.jpg"), EXHAUSTED)
    bury(aws, body("b.jpg"), EXHAUSTED)

    def half(QueueUrl: str, Entries: list[dict[str, str]]) -> dict[str, object]:
        answer = aws.sqs.send_message_batch(QueueUrl=QueueUrl, Entries=Entries[:1])
        failed = [{"Id": entry["Id"], "Code": "InternalError"} for entry in Entries[1:]]
        return {**answer, "Failed": failed}

    summary = replay(aws, Sqs(aws.sqs, send_message_batch=half)).run(threading.Event(), send=True)
    sent = summary.sent.total()
    assert (summary.selected.total(), summary.deleted) == (2, sent)
    everything = bodies(aws, aws.resources.queue_url) + bodies(aws, aws.resources.dlq_url)
    assert sorted(everything) == sorted([body("a.jpg"), body("b.jpg")])


def test_what_was_sent_and_could_not_be_deleted_is_hidden_for_a_while(aws: Aws) -> None:
    """Given back at once, the next run would send it again."""
    bury(aws, body(), EXHAUSTED)

    def nothing(QueueUrl: str, Entries: list[dict[str, str]]) -> dict[str, object]:
        return {"Failed": [{"Id": entry["Id"], "Code": "InternalError"} for entry in Entries]}

    summary = replay(aws, Sqs(aws.sqs, delete_message_batch=nothing)).run(
        threading.Event(), send=True
    )
    assert (summary.sent.total(), summary.deleted) == (1, 0)
    assert queue_state(aws, aws.resources.dlq_url) == (0, 1)


@pytest.mark.parametrize("reason", [REFUSED, UNKNOWN])
def test_what_comes_back_during_a_run_is_not_sent_again(
    aws: Aws, capsys: pytest.CaptureFixture[str], reason: Reason
) -> None:
    """The cause is not mended, and the source gives up faster than a run ends."""
    bury(aws, body(), reason)
    stop, dlq = threading.Event(), aws.resources.dlq_url
    rounds: list[object] = []

    def send_and_give_up(QueueUrl: str, Entries: list[dict[str, str]]) -> object:
        answer = aws.sqs.send_message_batch(QueueUrl=QueueUrl, Entries=Entries)
        how_often = MAX_RECEIVE_COUNT if reason == UNKNOWN else 1
        for _ in range(how_often):
            received = aws.sqs.receive_message(QueueUrl=QueueUrl, VisibilityTimeout=0)
        (message,) = received["Messages"]
        if reason == REFUSED:
            gone = Letter(body=message["Body"], reason=reason, detail=DETAILS[reason])
            DeadLetters(aws.sqs, dlq).copy(message, gone)
            aws.sqs.delete_message(QueueUrl=QueueUrl, ReceiptHandle=message["ReceiptHandle"])
        assert "Messages" not in aws.sqs.receive_message(QueueUrl=QueueUrl)
        rounds.append(answer)
        if len(rounds) > 2:
            stop.set()
        return answer

    summary = replay(aws, Sqs(aws.sqs, send_message_batch=send_and_give_up)).run(stop, send=True)
    assert (len(rounds), dict(summary.sent), summary.came_back) == (1, {reason: 1}, 1)
    assert queue_state(aws, dlq) == (1, 0)
    assert "1 came back" in summary.table()
    assert "\nback  " in capsys.readouterr().out


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "\\u65e5\\u672c"), ("utf-8", "日本")])
def test_a_key_that_the_terminal_cannot_show_stops_nothing(
    aws: Aws, encoding: str, shown: str
) -> None:
    bury(aws, body("日本.jpg"), REFUSED)
    program = start(aws, "--send", PYTHONIOENCODING=encoding)
    printed, _ = program.communicate(timeout=60)
    assert (program.returncode, queue_state(aws)) == (DONE, (1, 0))
    assert f"/{shown}.jpg" in printed.decode()


def test_a_reader_that_has_seen_enough_hides_no_letter(aws: Aws) -> None:
    """As under `| head`."""
    bury(aws, body(), REFUSED)
    with start(aws, PYTHONUNBUFFERED="1") as program:
        assert program.stdout
        program.stdout.close()
        assert program.stderr
        assert "Traceback" not in program.stderr.read().decode()
    assert (program.returncode, queue_state(aws, aws.resources.dlq_url)) == (INTERRUPTED, (1, 0))


def start(aws: Aws, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
    """Run the command as a program of its own."""
    env = aws_env(aws.endpoint_url) | {"QUEUE_URL": aws.resources.queue_url, **settings}
    command = [sys.executable, "-m", "events.repair.replay", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=pipe, stderr=pipe)


def test_an_interruption_finishes_what_was_begun_and_leaves_the_rest(aws: Aws) -> None:
    for number in range(15):
        bury(aws, body(f"{number}.jpg"), EXHAUSTED)
    stop = threading.Event()

    def last_receive(**arguments: object) -> object:
        stop.set()
        return aws.sqs.receive_message(**arguments)

    summary = replay(aws, Sqs(aws.sqs, receive_message=last_receive)).run(stop, send=True)
    sent = summary.sent.total()
    assert 0 < sent < 15
    assert "Interrupted" in summary.table()
    assert queue_state(aws, aws.resources.dlq_url) == (15 - sent, 0)
    assert queue_state(aws) == (sent, 0)


def test_the_dead_letter_queue_is_that_of_the_redrive_policy(aws: Aws) -> None:
    assert dead_letter_queue_of(aws.sqs, aws.resources.queue_url) == aws.resources.dlq_url
    assert dead_letter_queue_of(aws.sqs, aws.resources.dlq_url) == ""


def test_the_dead_letter_queue_is_found_from_another_account(aws: Aws) -> None:
    resources = aws.resources
    other = boto3.client(
        "sqs",
        endpoint_url=aws.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="111111111111",  # an account's number is its key in the emulators
        aws_secret_access_key="test",
    )
    assert dead_letter_queue_of(other, resources.queue_url) == resources.dlq_url


def test_the_command_lists_first_and_sends_when_told(
    aws: Aws, run_command: Callable[..., tuple[int, str]]
) -> None:
    bury(aws, body(), EXHAUSTED)
    env = {"QUEUE_URL": aws.resources.queue_url}
    code, printed = run_command(events.repair.replay, aws.endpoint_url, **env)
    assert (code, queue_state(aws)) == (DONE, (0, 0))
    assert '"s3://shelves/store-17/cam-2/0815.jpg"' in printed
    assert "dry run" in printed
    arguments = ("--send", "--reason", "exhausted", "--prefix", "store-17/", "--max", "5")
    code, printed = run_command(events.repair.replay, aws.endpoint_url, *arguments, **env)
    assert (code, queue_state(aws)) == (DONE, (1, 0))
    assert "dry run" not in printed
    assert queue_state(aws, aws.resources.dlq_url) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "env", "words"),
    [
        ([], {"QUEUE_URL": ""}, "`--queue-url` or QUEUE_URL must be set"),
        ([], {"AWS_DEFAULT_REGION": ""}, "`AWS_DEFAULT_REGION` must be set"),
        (["--since", "soon"], {}, "must be an age such as 90s, 15m, 3h or 2d, got 'soon'"),
        (["--since", "1h", "--older-than", "2h"], {}, "nothing lies between"),
        (["--queue-url", "http://q/photos.fifo"], {}, "must be a standard queue"),
        (["--max", "0"], {}, "must be a whole number from 1, got '0'"),
        (["--bucket", "s3://b"], {}, f"`--bucket` must be {BUCKET_MUST_BE}, got 's3://b'"),
        (["--reason", "bad"], {}, "invalid choice: 'bad'"),
    ],
)
def test_an_odd_argument_is_named(
    run_command: Callable[..., tuple[int, str]],
    arguments: list[str],
    env: dict[str, str],
    words: str,
) -> None:
    settings = {"QUEUE_URL": "http://127.0.0.1:9/q", **env}
    code, printed = run_command(events.repair.replay, "http://127.0.0.1:9", *arguments, **settings)
    assert code == MISUSED
    assert words in printed


def test_a_queue_without_another_for_dead_letters_is_refused(
    aws: Aws, run_command: Callable[..., tuple[int, str]]
) -> None:
    dlq_url = aws.resources.dlq_url
    for arguments in ([], ["--dlq-url", dlq_url]):
        code, _ = run_command(events.repair.replay, aws.endpoint_url, *arguments, QUEUE_URL=dlq_url)
        assert code == MISUSED


def test_aws_that_does_not_answer_ends_the_command(
    aws: Aws, run_command: Callable[..., tuple[int, str]]
) -> None:
    missing = f"{aws.resources.queue_url}-missing"
    code, _ = run_command(events.repair.replay, aws.endpoint_url, QUEUE_URL=missing)
    assert code == FAILED
