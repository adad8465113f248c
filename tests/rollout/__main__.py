"""`python -m tests.rollout`: thousands of random rollouts, the table of faults, and the mutants."""

import argparse
import logging
import sys
from collections import Counter

from tests.rollout.outcomes import table
from tests.rollout.runs import MUTANTS, broken, faults_of, first_fault, play, random_scenario


def main() -> int:
    """Run the command; 1 where a rollout ended as it must not, or a mutant was not caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.rollout", description=__doc__)
    parser.add_argument("--runs", type=int, default=5000)
    options = parser.parse_args()
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
