"""What of a trial goes into a checkpoint: what is equal on all ranks once, the rest by rank."""

from __future__ import annotations

from perfbench.api.submission import StateDict
from perfbench.engine.assembly import Assembly
from perfbench.engine.checkpoint import SavedState
from perfbench.engine.seeding import capture_generators, restore_generators
from perfbench.engine.state import copy_into
from perfbench.spec.result import PhaseTimes


def saved_parts(parts: Assembly) -> tuple[StateDict, StateDict]:
    """Return ``(own, shared)``: buffers, generators, data position; and weights, submission state.

    A submission whose state is sharded puts it with the rank's own.
    """
    own: StateDict = {
        "buffers": dict(parts.model.named_buffers()),
        "generators": capture_generators(),
        "data": parts.batches.state_dict(),
    }
    shared: StateDict = {"parameters": dict(parts.model.named_parameters())}
    holder = own if parts.submission.state_is_sharded else shared
    holder["submission"] = parts.submission.state_dict()
    return own, shared


def put_saved(parts: Assembly, saved: SavedState) -> PhaseTimes:
    """Put a checkpoint's state back in place and return the phase times that it carries."""
    copy_into(parts.model.named_parameters(), saved.shared["parameters"])
    copy_into(parts.model.named_buffers(), saved.own["buffers"])
    holder = saved.own if parts.submission.state_is_sharded else saved.shared
    parts.submission.load_state_dict(holder["submission"])
    parts.batches.load_state_dict(saved.own["data"])
    restore_generators(saved.own["generators"])
    return PhaseTimes(**saved.own["phases"])
