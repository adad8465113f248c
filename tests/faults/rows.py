"""What is done to the path, one function a row: each returns how often its fault really fired."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import PIL.Image

from local.aws import aws_env
from local.processes import ROOT
from tests.faults.stage import Ground, Stage, Stuck, setting

PLACES = 8  # of one source: a kill can hit as many deliveries
SAMPLE = ROOT / "local" / "samples" / "store-17" / "aisle-4" / "full.jpg"
TEST_EVENT = (ROOT / "tests" / "events" / "s3_test_event.json").read_text()
# Characters that have broken programs before.
ODD_KEYS = (
    "a b",
    "a+b",
    "a%2Bb",
    "café",
    "日本",
    "a&b=c",
    "a?b#c",
    "a;b",
    "a'b",
    'a"b',
    "a//b",
    "é",
)
POISON = (
    *("", "hello", "null", "[]", "{}", '{"Records": {}}', '{"Records": [{}]}', '{"Records": [1]}'),
    '{"Records": [{"eventName": "ObjectCreated:Put"}]}',
)


def photo(number: int = 0) -> bytes:
    """A small picture, its bytes unlike any other's."""
    file = io.BytesIO()
    PIL.Image.new("RGB", (320, 240), (number % 256, number // 256 % 256, 90)).save(file, "JPEG")
    return file.getvalue()


def upload(stage: Stage, count: int) -> None:
    """Put photos under keys of every kind."""
    for number in range(count):
        odd = ODD_KEYS[number % len(ODD_KEYS)]
        stage.upload(f"store-{number % 7}/cam-1/{odd}-{number}.jpg", photo(number))


def start(stage: Stage) -> None:
    stage.function.start()
    stage.source.start()


def nothing(stage: Stage) -> int:
    start(stage)
    upload(stage, 36)
    for number in range(6):
        stage.upload(f"corrupt-{number}.jpg", SAMPLE.read_bytes()[: 9000 + number])
    return 1


def kill(stage: Stage, function: bool, source: bool, times: int, count: int) -> int:
    """Kill while there is work in hand and more waits, start again, and so on."""
    stage.function.start()
    upload(stage, count)
    stage.source.start()
    hits = 0
    for _ in range(times):
        hits += stage.wait_for_progress()
        if source:
            stage.source.kill()
        if function:
            stage.function.kill()
            stage.function.start()
        if source:
            stage.source.start()
    return hits


def kill_function(stage: Stage) -> int:
    return kill(stage, True, False, times=6, count=90)


def kill_source(stage: Stage) -> int:
    return kill(stage, False, True, times=5, count=120)


def kill_both(stage: Stage) -> int:
    return kill(stage, True, True, times=4, count=90)


def kill_both_once(stage: Stage) -> int:
    # So many that the queue is seen before it is empty.
    return kill(stage, True, True, times=1, count=60)


def terminate_source(stage: Stage) -> int:
    start(stage)
    upload(stage, 60)
    stage.wait_for_progress()
    seconds = stage.source.end()
    assert seconds < 30, f"SIGTERM took {seconds:.1f} s"
    visible, leased = stage.state(stage.resources.queue_url)
    assert leased == 0, f"{leased} messages are leased to nobody"
    stage.source.start()
    return int(visible > 0)


def terminate_function(stage: Stage) -> int:
    start(stage)
    upload(stage, 60)
    hits = 0
    for _ in range(3):
        hits += stage.wait_for_progress()
        stage.function.end()
        stage.function.start()
    return hits


def freeze_function(stage: Stage) -> int:
    start(stage)
    upload(stage, 60)
    hits = 0
    for _ in range(2):
        hits += stage.wait_for_progress()
        stage.function.freeze(SECONDS_FROZEN)
    return hits


SECONDS_FROZEN = 8.0  # longer than the sink's time-out of the rows


def freeze_source(stage: Stage) -> int:
    """Longer than its leases last: others could have them by then."""
    start(stage)
    upload(stage, 60)
    hits = int(stage.wait_for_progress())
    stage.source.freeze(SECONDS_FROZEN + 2)
    return hits


def by_proxy(count: int, *rules: dict[str, object]) -> Callable[[Stage], int]:
    """Let the proxy fail calls at random until all is done."""

    def act(stage: Stage) -> int:
        stage.function.start()
        stage.ground.rules(*rules)
        stage.source.start()
        upload(stage, count)
        stage.wait_until_empty()
        fired = stage.ground.fired()
        stage.ground.rules()
        return fired

    return act


def fails(service: str, operation: str, share: float, **effect: object) -> dict[str, object]:
    """One fault of the proxy."""
    return {"service": service, "operation": operation, "probability": share, **effect}


def error(code: str, status: int) -> dict[str, object]:
    return {"code": code, "status": status}


sqs_errors = by_proxy(
    80,
    fails("sqs", "ReceiveMessage", 0.2, error=error("ServiceUnavailable", 503)),
    fails("sqs", "DeleteMessageBatch", 0.5, error=error("InternalFailure", 500)),
    fails("sqs", "ChangeMessageVisibility", 0.3, error=error("ThrottlingException", 400)),
    fails("sqs", "ChangeMessageVisibilityBatch", 0.5, error=error("InternalFailure", 500)),
)
sqs_resets = by_proxy(80, {"service": "sqs", "probability": 0.2, "reset": True})
sqs_lost_answers = by_proxy(
    80,
    fails("sqs", "ReceiveMessage", 0.3, response={"abort_frac": 0.1}),
    fails("sqs", "DeleteMessageBatch", 0.5, response={"abort_frac": 0.1}),
)
s3_errors = by_proxy(
    60,
    fails("s3", "GetObject", 0.2, error=error("SlowDown", 503)),
    fails("s3", "GetObject", 0.1, error=error("AccessDenied", 403)),
    fails("s3", "PutObject", 0.2, error=error("SlowDown", 503)),
    fails("s3", "HeadObject", 0.2, error=error("InternalError", 500)),
)
# The SDK does not repeat a call whose answer breaks off, and a delivery reads result and photo: at
# twice this rate three deliveries in five failed, and of good photos one in fifty was given up.
s3_broken_bodies = by_proxy(
    60,
    fails("s3", "GetObject", 0.1, response={"truncate_frac": 0.5}),
    fails("s3", "GetObject", 0.05, response={"abort_frac": 0.5}),
    fails("s3", "GetObject", 0.1, reset=True),
    fails("s3", "GetObject", 0.2, latency=1500),
    fails("s3", "PutObject", 0.2, response={"abort_frac": 0.1}),  # done, but the answer is lost
)
# The SDK does not repeat a call that SNS answers with Throttled, so each costs the photo one of its
# seven deliveries: at a half, a good photo in a hundred would be given up.
sns_throttled = by_proxy(60, fails("sns", "Publish", 0.25, error=error("Throttled", 429)))
sns_lost_answers = by_proxy(60, fails("sns", "Publish", 0.4, response={"abort_frac": 0.1}))
sns_both = by_proxy(
    20,
    fails("sns", "Publish", 0.25, error=error("Throttled", 429)),
    fails("sns", "Publish", 0.3, response={"abort_frac": 0.1}),
)


def gone_before_read(stage: Stage) -> int:
    found = [stage.upload(f"gone-{number}.jpg", photo(number)) for number in range(6)]
    upload(stage, 20)
    for item in found:
        stage.ground.s3.delete_object(Bucket=item.bucket, Key=item.key, VersionId=item.version_id)
    start(stage)
    return len(found)


def overwritten(stage: Stage) -> int:
    for number in range(60):
        stage.upload(f"same-{number % 20}.jpg", photo(number))
    start(stage)
    return 40


def notified_four_times(stage: Stage) -> int:
    upload(stage, 24)
    stage.duplicate_notifications(copies=4)
    assert stage.depth() == 96
    start(stage)
    return 72


def sink_away(seconds: float) -> Callable[[Stage], int]:
    """Nobody listens."""

    def act(stage: Stage) -> int:
        upload(stage, 40)
        stage.source.start()
        time.sleep(seconds)
        assert stage.depth() == 40
        stage.function.start()
        return 1

    return act


def sink_hangs_up(seconds: float, count: int = 40) -> Callable[[Stage], int]:
    """Somebody listens, and closes every connection: the event went out and nothing came back."""

    def act(stage: Stage) -> int:
        upload(stage, count)
        stage.source.start()
        connections = stage.hang_up_on_everyone(seconds)
        stage.function.start()
        return connections

    return act


def refused_by_aws(code: str, status: int) -> Callable[[Stage], int]:
    """S3 and SNS refuse every call of the function for a minute, for what is no photo's fault."""

    def act(stage: Stage) -> int:
        start(stage)
        rule = {"probability": 1.0, "error": error(code, status)}
        stage.ground.rules({"service": "s3", **rule}, {"service": "sns", **rule})
        upload(stage, 40)
        time.sleep(60)
        assert stage.depth() == 40, "photos were given up that are not at fault"
        fired = stage.ground.fired()
        stage.ground.rules()
        return fired

    return act


def poisoned_batches(stage: Stage) -> int:
    """Ten good records to a message and one that nobody can read; SNS has them delivered again."""
    upload(stage, 40)
    messages = stage.batch_notifications(10, {**BAD_RECORD})
    stage.function.start()
    stage.ground.rules(fails("sns", "Publish", 0.25, error=error("Throttled", 429)))
    stage.source.start()
    stage.wait_until_empty()
    fired = stage.ground.fired()
    stage.ground.rules()
    assert messages == 4
    assert len(stage.versions()) == 40, "a poison record cost good ones"
    return fired


BAD_RECORD = {"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}


def poison(stage: Stage) -> int:
    for body in POISON[1:]:  # SQS takes no empty message
        stage.send(body)
    stage.send(TEST_EVENT)
    start(stage)
    upload(stage, 20)
    return len(POISON) - 1


def photo_that_kills(stage: Stage) -> int:
    start(stage)
    upload(stage, 15)
    stage.upload("killer.jpg", photo() + b"KILL")
    upload_more = threading.Thread(target=upload_slowly, args=(stage, 30))
    upload_more.start()
    upload_more.join()
    stage.wait_until_empty()
    return (stage.logs / "function.log").read_text().count("was sent SIGKILL")


def upload_slowly(stage: Stage, count: int) -> None:
    for number in range(count):
        stage.upload(f"slowly-{number}.jpg", photo(number))
        time.sleep(0.2)


def slow_inference(stage: Stage) -> int:
    """Each takes 4.5 s, a lease 3: one that ran out would have a photo delivered twice."""
    upload(stage, 6)
    start(stage)
    stage.wait_until_empty()
    delivered = (stage.logs / "source.log").read_text().count("event.delivered")
    assert delivered == 6, f"6 photos were delivered {delivered} times"
    return 6


def no_dead_letters(stage: Stage) -> int:
    """The copy to the dead-letter queue fails: what is hopeless stays until SQS moves it."""
    for body in POISON[1:4]:
        stage.send(body)
    upload(stage, 10)
    stage.upload("killer.jpg", photo() + b"KILL")
    stage.ground.rules(fails("sqs", "SendMessage", 1.0, error=error("InternalFailure", 500)))
    start(stage)
    stage.wait_until_empty()
    return stage.ground.fired()


def backlog(stage: Stage) -> int:
    with ThreadPoolExecutor(4) as uploads:
        body = photo()
        list(uploads.map(lambda n: stage.upload(f"store-1/cam-1/{n}.jpg", body), range(BACKLOG)))
    start(stage)
    started = time.monotonic()
    sizes: dict[str, list[float]] = {"source": [], "function": []}
    while stage.depth():
        time.sleep(5)
        for name, part in (("source", stage.source), ("function", stage.function)):
            sizes[name].append(resident(part.process_id) / 2**20)
    print(f"  backlog: {BACKLOG / (time.monotonic() - started):.0f} messages a second")
    for name, megabytes in sizes.items():
        early, last = megabytes[len(megabytes) // 4], megabytes[-1]
        print(f"  memory of the {name}: {early:.0f} MiB after a quarter, {last:.0f} at the end")
        assert last < early * 1.1, f"the {name} grew from {early:.0f} to {last:.0f} MiB"
    return BACKLOG


BACKLOG = 10_000


def resident(group: int) -> int:
    """Sum the resident memory of the processes in a group, in bytes."""
    pages = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if int((folder / "stat").read_text().rpartition(")")[2].split()[2]) == group:
                pages += int((folder / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def dropped_notifications(stage: Stage) -> int:
    """S3 says nothing of one photo in twenty; the sweep finds them."""
    upload(stage, 100)
    dropped = stage.drop_notifications(every=20)
    start(stage)
    stage.wait_until_empty()
    sweep(stage)
    stage.wait_until_empty()
    sweep(stage)
    assert stage.depth() == 0, "a second sweep found something"
    return dropped


def sweep(stage: Stage) -> None:
    env = {
        **aws_env(stage.ground.endpoint_url),
        "QUEUE_URL": stage.resources.queue_url,
        "RESULTS_BUCKET": stage.resources.results_bucket,
        "EVENTS_BUCKETS": stage.resources.bucket,
    }
    command = [sys.executable, "-m", "events.repair.sweep", *SWEEP_ARGUMENTS]
    subprocess.run(command, cwd=ROOT, env=env, check=True, timeout=120)


SWEEP_ARGUMENTS = ("--send", "--older-than", "0s")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fault and what may come of it."""

    name: str
    act: Callable[[Stage], int]
    least_fired: int = 1
    # Bounds, not expectations: nearly always there are far fewer.
    most_duplicates: int = 0
    rejected: int = 0
    dead_letters: Mapping[str, int] = field(default_factory=dict)  # by reason, exactly
    faults: str = "hasty"
    settings: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 120  # to the end of all messages, after the act


ROWS = (
    Row(name="nothing; 6 corrupt photos among 42", act=nothing, rejected=6),
    Row(
        name="kill -9 of the function, 6 times",
        act=kill_function,
        least_fired=4,
        most_duplicates=6 * PLACES,
    ),
    Row(
        name="kill -9 of the source, 5 times",
        act=kill_source,
        least_fired=3,
        most_duplicates=5 * PLACES,
    ),
    Row(name="kill -9 of both, 4 times", act=kill_both, least_fired=2, most_duplicates=4 * PLACES),
    Row(name="SIGTERM to the source", act=terminate_source),
    Row(name="SIGTERM to the function, 3 times", act=terminate_function, least_fired=2),
    Row(
        name="SIGSTOP of the function, 2 x 8 s",
        act=freeze_function,
        least_fired=1,
        most_duplicates=2 * PLACES,
    ),
    Row(
        name="SIGSTOP of the source, 10 s", act=freeze_source, least_fired=1, most_duplicates=PLACES
    ),
    Row(
        name="SQS answers 5xx and throttles", act=sqs_errors, least_fired=10, most_duplicates=PLACES
    ),
    Row(name="SQS resets connections", act=sqs_resets, least_fired=10, most_duplicates=PLACES),
    Row(
        name="SQS executes, the answer is lost",
        act=sqs_lost_answers,
        least_fired=10,
        most_duplicates=PLACES,
    ),
    Row(name="S3 answers 503, 403, 500", act=s3_errors, least_fired=20),
    Row(name="S3 truncates, breaks off, is slow", act=s3_broken_bodies, least_fired=20),
    Row(name="photo gone before it is read", act=gone_before_read, rejected=6),
    Row(name="photo overwritten, 60 in 20 keys", act=overwritten),
    Row(name="SNS throttles", act=sns_throttled, least_fired=8),
    Row(
        name="SNS executes, the answer is lost",
        act=sns_lost_answers,
        least_fired=10,
        most_duplicates=120,
    ),
    Row(
        name="each notification 4 times, at once",
        act=notified_four_times,
        least_fired=1,
        most_duplicates=24 * 3,
    ),
    Row(name="nobody listens for 60 s", act=sink_away(60)),
    Row(name="every connection closed for 60 s", act=sink_hangs_up(60), least_fired=5),
    Row(name="poison", act=poison, dead_letters={"unreadable": 7, "unrelated": 1}),
    Row(
        name="one poison record to ten good ones",
        act=poisoned_batches,
        least_fired=4,
        dead_letters={"unreadable": 4},
    ),
    Row(
        name="clock skewed for 60 s",
        act=refused_by_aws("RequestTimeTooSkewed", 403),
        least_fired=5,
    ),
    Row(name="token expired for 60 s", act=refused_by_aws("ExpiredToken", 400), least_fired=5),
    Row(
        name="a photo that kills the worker",
        act=photo_that_kills,
        least_fired=7,
        most_duplicates=8 * PLACES,
        dead_letters={"exhausted": 1},
        faults="hasty,killer",
    ),
    Row(
        name="work longer than a lease",
        act=slow_inference,
        faults="hasty,slow",
        settings={"VISIBILITY_TIMEOUT": "3", "SINK_TIMEOUT": "55"},
    ),
    Row(
        name="dead-letter queue refuses copies",
        act=no_dead_letters,
        most_duplicates=8 * PLACES,
        dead_letters={"unknown": 4},
        faults="hasty,killer",
    ),
    Row(
        name="backlog of 10 000, detector of 1 ms",
        act=backlog,
        faults="hasty,stand-in",
        seconds=900,
    ),
    Row(name="1 notification in 20 dropped, then swept", act=dropped_notifications, least_fired=5),
)
# What `make test` runs: some of the above, and smaller.
SOON = {"VISIBILITY_TIMEOUT": "4", "SINK_TIMEOUT": "3"}
QUICK = (
    Row(
        name="kill -9 of both",
        act=kill_both_once,
        least_fired=1,
        most_duplicates=PLACES,
        settings=SOON,
    ),
    Row(name="SNS throttles and loses answers", act=sns_both, least_fired=3, most_duplicates=60),
    Row(name="every connection closed for 4 s", act=sink_hangs_up(4, 12), least_fired=3),
)


def named(name: str) -> Row:
    """Find a row by its name."""
    return next(row for row in (*ROWS, *QUICK) if row.name == name)


# A defect each, and the row that must turn red on it.
MUTANTS = {
    "delete-before-send": "kill -9 of both, 4 times",
    "mark-before-publish": "SNS throttles",
    "no-heartbeat": "work longer than a lease",
    "no-breaker": "every connection closed for 60 s",
    "no-if-none-match": "each notification 4 times, at once",
    "delete-before-copy": "dead-letter queue refuses copies",
    "credentials-as-any-failure": "clock skewed for 60 s",
    "one-record-for-all": "one poison record to ten good ones",
}
QUICK_MUTANTS = {"mark-before-publish": "SNS throttles and loses answers"}


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of a row."""

    uploads: int = 0
    events: int = 0
    rejected: int = 0
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    lost: int = 0
    duplicates: int = 0
    most_of_one: int = 0
    fired: int = 0
    seconds: float = 0.0
    problems: tuple[str, ...] = ()


def run(ground: Ground, row: Row, mutant: str = "") -> Report:
    """Set the stage, do what the row does, and judge what came of it."""
    started = time.monotonic()
    problems = []
    fired = 0
    faults = f"{row.faults},{mutant}" if mutant else row.faults
    slug = "".join(c if c.isalnum() else "-" for c in f"{row.name}-{mutant}")
    with setting(ground, slug, faults, **row.settings) as stage:
        try:
            fired = row.act(stage)
            stage.wait_until_empty(row.seconds)
        except (Stuck, AssertionError) as err:
            problems.append(str(err))
        outcome = stage.outcome()
    if fired < row.least_fired:
        problems.append(f"the fault fired {fired} times, not {row.least_fired}")
    if outcome.lost:
        problems.append(f"lost {len(outcome.lost)}: {outcome.lost[:3]}")
    if outcome.duplicates > row.most_duplicates:
        problems.append(f"{outcome.duplicates} duplicates, at most {row.most_duplicates}")
    if outcome.reasons != Counter(row.dead_letters):
        problems.append(f"dead letters {dict(outcome.reasons)}, not {dict(row.dead_letters)}")
    if outcome.rejected != row.rejected:
        problems.append(f"{outcome.rejected} rejected, not {row.rejected}")
    if odd := outcome.differing():
        problems.append(f"{len(odd)} ids in two versions or of no upload: {odd[:3]}")
    return Report(
        uploads=len(outcome.uploads),
        events=len(outcome.published),
        rejected=outcome.rejected,
        dead_letters=dict(outcome.reasons),
        lost=len(outcome.lost),
        duplicates=outcome.duplicates,
        most_of_one=max(outcome.published.values(), default=0),
        fired=fired,
        seconds=time.monotonic() - started,
        problems=tuple(problems),
    )
