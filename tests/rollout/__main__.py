"""`python -m tests.rollout`: thousands of random rollouts, the table of faults, and the mutants."""

import argparse
import json
import logging
import sys
from collections import Counter

from events.log import STANDARD
from tests.rollout.fake_knative import FakeKnative
from tests.rollout.outcomes import OUTCOMES, row, table
from tests.rollout.runs import MUTANTS, broken, faults_of, first_fault, play, random_scenario


def show(name: str) -> None:
    """Play one row of the table and print the conductor's log, seconds of its own clock first."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[Shown()], force=True)
    ending = play(OUTCOMES[name][0], seed=1, watch=Shown.watch)
    print(row(name, ending), *ending.notices, sep="\n")


class Shown(logging.Handler):
    """Prints records short, with the seconds since the sync."""

    knative: FakeKnative
    begun: float

    @classmethod
    def watch(cls, knative: FakeKnative) -> None:
        """Take the time from a fake."""
        cls.knative, cls.begun = knative, knative.time

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        facts = {k: v for k, v in vars(record).items() if k not in STANDARD}
        seconds = self.knative.time - self.begun
        print(f"{seconds:6.1f} s  {record.getMessage():<18} {json.dumps(facts)}")


def main() -> int:
    """Run the command; 1 where a rollout ended as it must not, or a mutant was not caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.rollout", description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--show", choices=OUTCOMES, help="only this one, with its log")
    options = parser.parse_args()
    if options.show:
        show(options.show)
        return 0
    logging.disable(logging.CRITICAL)
    print(table(), end="\n\n")
    bad, ends = 0, Counter[str]()
    for seed in range(options.runs):
        scenario = random_scenario(seed)
        ending = play(scenario, seed)
        ends[f"{getattr(ending.codes[-1], 'name', 'killed').lower()}"] += 1
        if faults := faults_of(scenario, ending):
            bad += 1
            print(f"seed {seed}: {'; '.join(faults)}")
    told = ", ".join(f"{count} {name}" for name, count in ends.most_common())
    print(f"{options.runs} random rollouts: {told}; {bad} ended as none may\n")
    for mutant in MUTANTS:
        with broken(mutant):
            caught = first_fault(range(300))
        bad += not caught
        print(f"mutant, {mutant}: {caught[:160] or 'NOT CAUGHT'}")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
