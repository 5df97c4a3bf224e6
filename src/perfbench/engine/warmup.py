"""The unscored warm-up: everything is compiled on real batches, then every bit is put back."""

from __future__ import annotations

import contextlib

from torch import nn

from perfbench.api.submission import Submission, TrainingComplete, TrainingDiverged
from perfbench.data.prefetch import DeviceBatches, only_batches
from perfbench.engine.evaluate import Evaluator
from perfbench.engine.state import digest_of, put_state, take_state
from perfbench.errors import SubmissionError

NUM_WARMUP_STEPS = 3
"""The second differs from the first: optimizer state exists, and DDP has arranged its buckets. Some submissions do on
every third step what they do on no other one."""


def warm_up(model: nn.Module, submission: Submission, batches: DeviceBatches, evaluator: Evaluator) -> None:
    """Run a few steps and one evaluation batch of each split, then restore all state bit for bit.

    Weights, optimizer state, random numbers and data position are as before, which is checked by digest.

    Raises:
        SubmissionError: If the submission's state does not come back.
    """
    state = take_state(model, submission)
    before = digest_of(state)
    position = batches.state_dict()
    # A trial that goes on from its last steps may end in these; the scored loop makes them again, and says so.
    with contextlib.suppress(TrainingComplete, TrainingDiverged):
        for _ in range(NUM_WARMUP_STEPS):
            submission.update_params(submission.data_selection(only_batches(batches)))
    evaluator.warm_up(submission.prepare_for_eval())
    submission.resume_training()
    put_state(state, model, submission)
    batches.load_state_dict(position)
    if digest_of(take_state(model, submission)) != before:
        raise SubmissionError(
            "the submission's state after load_state_dict is not the state that state_dict returned",
            where="load_state_dict",
            hint="run `perfbench check submission NAME`: it names the check that fails",
        )
