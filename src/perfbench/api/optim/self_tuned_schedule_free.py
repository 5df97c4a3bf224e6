"""Schedule-Free AdamW at the one setting that both self-tuning entries of the competition have for every workload.

Source: AlgoPerf v0.5 and v0.6, self-tuning (specification, 2.3.1 and 2.4.1); what the entries do besides differs.
"""

from __future__ import annotations

from perfbench.api.optim.schedule_free import EPSILON, ScheduleFreeAdamW, ScheduleFreeVariant
from perfbench.api.schedules import WarmupConstant
from perfbench.api.submission import TrainingContext

LABEL_SMOOTHING = 0.2
_LEARNING_RATE = 0.0025
_BETAS = (0.9, 0.9955159689799007)
_WEIGHT_DECAY = 0.08121616522670176
_WARMUP_FACTOR = 0.02 * 0.75
"""Of the step hint."""


def self_tuned_optimizer(context: TrainingContext, variant: ScheduleFreeVariant) -> ScheduleFreeAdamW:
    """Return the optimizer of the model; weight decay acts on every parameter."""
    return ScheduleFreeAdamW(
        context.model.parameters(),
        lr=_LEARNING_RATE,
        betas=_BETAS,
        eps=EPSILON,
        weight_decay=_WEIGHT_DECAY,
        variant=variant,
    )


def self_tuned_schedule(step_hint: int, *, rate_factor: float = 1.0) -> WarmupConstant:
    """Return warm-up, then a constant rate.

    Args:
        step_hint: The workload's.
        rate_factor: Of the setting's rate.
    """
    return WarmupConstant(peak=_LEARNING_RATE * rate_factor, warmup=int(_WARMUP_FACTOR * step_hint), lowest=EPSILON)
