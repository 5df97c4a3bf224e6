"""Seeds are part of a result's identity: golden values, the same in every process and on every machine."""

from __future__ import annotations

import itertools

from perfbench.spec.seeds import SEED_BOUND, Stream, stream_seed, study_seed, trial_seed


def test_golden_seeds() -> None:
    seed = trial_seed(0, study=0, trial=0)

    assert seed == 268595771814483368
    assert trial_seed(7, study=4, trial=2) == 6970953295092023957
    assert study_seed(0) == 7127067648104898488
    assert {stream.value: stream_seed(seed, stream) for stream in Stream} == {
        "init": 7154134612982728315,
        "data_order": 1075104197480130993,
        "augmentation": 886881302502062301,
        "dropout": 8476884358050314072,
        "submission": 2464861345600595111,
    }


def test_no_two_trials_or_streams_share_a_seed() -> None:
    trials = [trial_seed(run, study=s, trial=t) for run, s, t in itertools.product(range(3), range(12), range(12))]
    streams = [stream_seed(seed, stream, rank=rank) for seed in trials for stream in Stream for rank in range(2)]

    assert len(set(trials)) == len(trials)
    assert len(set(streams)) == len(streams)
    assert all(0 <= seed < SEED_BOUND for seed in trials + streams)
