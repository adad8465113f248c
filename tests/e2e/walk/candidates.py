"""`python -m tests.e2e.walk.candidates`: many candidates on a real cluster, the conductor killed.

On what `python -m tests.e2e.walk --only ready first` left. Each good one must get all of the
traffic and each bad one none, whatever happens to the conductor; of a rejected one no pod may be
left after two minutes.
"""

from __future__ import annotations

import argparse
import random
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.e2e.walk import rollout
from tests.e2e.walk.cluster import Failed, newest, of_revision, service, traffic, until

BAD = [rollout.ERRORS, rollout.WORSE, rollout.NEVER_READY]


def main() -> int:
    """Try candidates in turn; 1 where one ended as it must not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--good", type=int, default=5)
    parser.add_argument("--bad", type=int, default=5)
    parser.add_argument("--kills", type=int, default=2, help="of a conductor, at most")
    parser.add_argument("--hold", type=int, default=5, help="seconds at each share")
    parser.add_argument("--prometheus", default="", help="URL within the cluster")
    parser.add_argument("--abort", action="store_true", help="and one that --abort takes out")
    options = parser.parse_args()
    template = rollout.plain()
    stable = max(traffic(), key=lambda name: traffic()[name])
    kinds = [rollout.GOOD] * options.good + [BAD[i % len(BAD)] for i in range(options.bad)]
    random.shuffle(kinds)
    failed = 0
    watchers, watches = ThreadPoolExecutor(), []
    print("| candidate | kills | ends | seconds | |\n|---|--:|---|--:|---|", flush=True)
    for variables in kinds:
        deadline = {rollout.DEADLINE: "60s"} if variables == rollout.NEVER_READY else {}
        candidate = rollout.offer(template, variables, **deadline)
        kills = random.randint(0, options.kills)
        given = ", ".join(f"{name}={value}" for name, value in variables.items()) or "good"
        try:
            ending = rollout.walked(
                candidate,
                kills=kills,
                hold=options.hold,
                prometheus=options.prometheus,
                leave=True,
            )
            told = rollout.expect(ending, good=not variables, stable=stable)
            seconds, holds = f"{ending.seconds:.0f}", "right"
        except Failed as err:
            told, seconds, holds, failed = str(err), "", "**wrong**", failed + 1
        print(f"| {given} | {kills} | {holds} | {seconds} | {told} |", flush=True)
        if variables:
            watches.append((candidate, watchers.submit(rollout.until_gone, candidate)))
        stable = max(traffic(), key=lambda name: traffic()[name])
    for candidate, watch in watches:
        try:
            print(f"{candidate}: no pod left after {watch.result():.0f} s", flush=True)
        except Failed as err:
            print(f"{candidate}: {err}", flush=True)
            failed += 1
    if options.abort:
        failed += not aborted(template, stable)
    return bool(failed)


def aborted(template: dict[str, object], stable: str) -> bool:
    """Leave a good candidate in the middle of its way, and let `--abort` take it out."""
    candidate = rollout.offer(template, rollout.GOOD)
    rollout.conduct(hold=60)
    until(f"{candidate} has a share", lambda: candidate in traffic(), 240)
    rollout.stop()
    rollout.conduct(abort=True)
    try:
        until("the end of --abort", lambda: rollout.ended("shelf-rollout-abort"), 120)
        until("stable alone", lambda: traffic() == {stable: 100}, 60)
        until("no pod is left", lambda: not of_revision(candidate), rollout.GONE_SECONDS)
    except Failed as err:
        print(f"| --abort | | **wrong** | | {err} |", flush=True)
        return False
    rejected = service()["metadata"].get("annotations", {}).get("shelfwatch.io/rejected")
    right = newest() == candidate and rejected != candidate
    print(f"| --abort at a share | | {'right' if right else '**wrong**'} | | {stable} has 100 % |")
    return right


if __name__ == "__main__":
    sys.exit(main())
