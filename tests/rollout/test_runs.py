"""Rollouts on a clock of their own end in one of two states, whatever happens meanwhile."""

import logging
from collections.abc import Iterator

import pytest
from conftest import ROOT

from tests.rollout.outcomes import NAMES, OUTCOMES, row
from tests.rollout.runs import CANDIDATE, MUTANTS, Scenario, broken, faults_of, first_fault, play

CANARY_MD = (ROOT / "docs" / "canary.md").read_text()
RUNS = 100  # `make rollout-runs` plays thousands
SEEDS = {"no check that stable is ready": 130}  # where it is caught soon


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_random_rollouts_end_with_all_traffic_on_one_of_two_revisions() -> None:
    assert first_fault(range(RUNS)) == ""


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_rollout_ends_as_the_table_says_with(name: str) -> None:
    scenario, must = OUTCOMES[name]
    ending = play(scenario, seed=1)
    warnings = [event["reason"] for event in ending.events if event["type"] == "Warning"]
    ends = {NAMES[revision]: percent for revision, percent in ending.shares.items()}
    assert tuple(ending.codes) == must.codes
    assert ends == {must.ends: 100}
    assert ending.largest == must.most
    assert (warnings or [""])[0] == must.reason
    assert faults_of(scenario, ending) == []
    assert row(name, ending) in CANARY_MD


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_conductor_is_caught(mutant: str) -> None:
    with broken(mutant):
        assert first_fault(range(SEEDS.get(mutant, 0), 300))


def test_steps_holds_and_the_end_are_told_as_events() -> None:
    ending = play(Scenario())
    told = [(event["type"], event["reason"], event["message"]) for event in ending.events]
    assert [message for _, reason, message in told if reason == "RolloutStep"] == [
        *(
            f"shelf-detector-00001 {100 - share} %, {CANDIDATE} {share} %"
            for share in (0, 20, 50, 100)
        ),
        f"{CANDIDATE} 100 %",
    ]
    assert told[-1] == ("Normal", "RolloutDone", f"{CANDIDATE} has all the traffic")
    assert ending.notices == []
