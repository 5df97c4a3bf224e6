"""What `sweep --dry-run` says of cost and agreement, and that the suites' descriptions say what the record says."""

from __future__ import annotations

import re

import pytest

from perfbench.cli.expectation import expectation
from perfbench.cli.exploring import sweep_trials
from perfbench.registry import repository_root
from perfbench.scoring.agreement_record import AgreementRecord
from perfbench.spec.suite import Suite
from perfbench.spec.yaml_files import read_yaml_mapping

CONFIGS = repository_root() / "configs"
RECORD = AgreementRecord.read(CONFIGS / "benchmark" / "algoperf_v05.agreement.json")


def _said(*overrides: str) -> str:
    return "\n".join(expectation(sweep_trials([*overrides, "submission=adamw"])[1]))


def test_a_suite_at_full_scale_is_told_its_cost_and_both_agreements() -> None:
    said = _said("workload=quick", "scale=full", "study=0")

    assert "10 trials, 36.4 h on the clock at most: 1.5% of the whole benchmark" in said
    assert "tau 0.75 in sample" in said
    assert re.search(r"validated, on submissions that the choice has not seen, 0\.\d\d \[-?0\.\d\d, 1\.00\]", said)
    assert "11 entries of AlgoPerf v0.5" in said


def test_the_whole_benchmark_agrees_with_itself() -> None:
    said = _said("workload=all", "scale=full", "study=all")

    assert "200 trials" in said
    assert "100.0% of the whole benchmark" in said
    assert "tau 1.00 in sample" in said
    assert "1.00 [1.00, 1.00] for the best choice" in said


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (("workload=mnist", "scale=full"), "not known for this part of"),
        (("workload=criteo", "scale=mini"), "not known for scale=mini"),
        (
            ("workload=criteo", "scale=full", "hp.learning_rate=1e-3"),
            "not known for trials that somebody tries by hand",
        ),
        (("workload=criteo", "scale=full", "ruleset=self_tuning"), "self-tuning"),
    ],
)
def test_what_is_not_known_is_said_so(overrides: tuple[str, ...], why: str) -> None:
    submission = "adamg" if "ruleset=self_tuning" in overrides else "adamw"
    said = "\n".join(expectation(sweep_trials([*overrides, f"submission={submission}"])[1]))

    assert why in said
    assert "cost for each submission" in said
    assert "tau" not in said.replace("self-tuning", "")


@pytest.mark.parametrize("name", ["quick", "half"])
def test_a_suite_s_description_says_what_the_record_says(name: str) -> None:
    suite = Suite.from_mapping(read_yaml_mapping(CONFIGS / "suite" / f"{name}.yaml"))

    for num_studies in (RECORD.num_studies, 1):
        found = RECORD.expected(suite.workloads, num_studies=num_studies, num_trials=RECORD.num_trials)
        assert found is not None
        assert f"{found.in_sample:.2f}" in suite.description
    whole = RECORD.expected(suite.workloads, num_studies=RECORD.num_studies, num_trials=RECORD.num_trials)
    assert whole is not None
    assert whole.cost <= 0.5
    percent = re.search(r"([\d.]+) % of", suite.description)
    assert percent is not None
    assert float(percent[1]) == pytest.approx(100 * whole.cost, abs=0.05)


def test_the_record_knows_every_part_once() -> None:
    parts = [frozenset(part.workloads) for part in RECORD.parts]

    assert len(parts) == len(set(parts)) == 2**8 - 1
    assert [one.cost for one in RECORD.validated] == sorted(one.cost for one in RECORD.validated)
