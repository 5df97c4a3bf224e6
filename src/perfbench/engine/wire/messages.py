"""All that referee and trainer say to one another: a few plain fields each, as JSON. No pickle, no object, no code.

One segment of a trial, seen from the wire (docs/architecture.md has the picture)::

    referee   Setup .......... Begin ....... Go ................. (evaluates) Save ............. Go ... End
    trainer   ........ Ready ....... Begun ..... Stopped, Rested .................. Taken, Saved ........... Bye

From ``Begin``, ``Go`` and ``Save`` to the answer to each the clock scores; at any other time the trainer rests.
"""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from perfbench.spec.base import Spec
from perfbench.spec.result import FailureReason, Measurement
from perfbench.spec.run import TrialSpec


class Place(Spec):
    """Where a rank is."""

    rank: int = 0
    num_ranks: int = 1
    local_rank: int = 0
    num_local_ranks: int = 1
    """On this node."""

    @classmethod
    def from_environment(cls) -> Place:
        """Read what the launcher set: ``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``, ``LOCAL_WORLD_SIZE``."""
        num_ranks = int(os.environ.get("WORLD_SIZE", "1"))
        return cls(
            rank=int(os.environ.get("RANK", "0")),
            num_ranks=num_ranks,
            local_rank=int(os.environ.get("LOCAL_RANK", "0")),
            num_local_ranks=int(os.environ.get("LOCAL_WORLD_SIZE", num_ranks)),
        )


class Sandbox(Spec):
    """What a confined trainer may reach: paths of files and folders, each with what is beneath it."""

    readable: tuple[str, ...]
    listable: tuple[str, ...]
    """Names may be read there, contents not."""
    writable: tuple[str, ...]
    devices: tuple[str, ...]
    """Read, write and control, but neither create nor remove."""
    has_network: bool
    """Ranks need one another's; a rank that is alone needs none."""


# --- the referee says ---------------------------------------------------------------------------------------------


class Setup(Spec):
    """Build model and data, compile, and wait; the submission is not imported yet."""

    kind: Literal["setup"] = "setup"
    trial: TrialSpec
    place: Place
    timeout_s: float
    """How long ranks wait for one another."""
    stacks_fd: int | None = None
    """Where the stacks of all threads go on SIGUSR1."""
    sandbox: Sandbox | None = None
    """``null`` confines nothing."""


class Begin(Spec):
    """Import the submission and build it (scored); continue from a saved state, if one is named."""

    kind: Literal["begin"] = "begin"
    step: int = 0
    resume_from: str | None = None
    """Folder with one file by rank."""
    measurements: tuple[Measurement, ...] = ()


class Go(Spec):
    """Train until a flag is raised or a step is reached (scored)."""

    kind: Literal["go"] = "go"
    stop_at_step: int | None
    """An evaluation is due after this step, whatever the flags say."""
    measurement: Measurement | None = None
    """What was evaluated since the last segment."""


class Save(Spec):
    """Take everything that a resume needs (scored), then write it into a folder (not scored)."""

    kind: Literal["save"] = "save"
    folder: str


class End(Spec):
    """Leave."""

    kind: Literal["end"] = "end"


# --- the trainer answers ------------------------------------------------------------------------------------------


class Ready(Spec):
    """Model and loss are compiled."""

    kind: Literal["ready"] = "ready"
    device: str = "cpu"
    """The kind of device that the trainer has found."""
    num_graphs: int = Field(default=0, ge=0)
    """Compiled before there is a submission."""
    switches: dict[str, str] = Field(default_factory=dict)
    """Threads, precision and backend flags as they are before a submission can change them."""


class Begun(Spec):
    """The submission is built, the device has done what it was given."""

    kind: Literal["begun"] = "begun"


class Stopped(Spec):
    """The segment has ended and the device is done. Nothing in it is believed that could shorten a time."""

    kind: Literal["stopped"] = "stopped"
    step: int = Field(ge=0, le=2**53)
    is_prepared: bool
    """Whether the weights to evaluate are chosen."""
    is_complete: bool
    """Whether the submission ends its training."""
    divergence: str | None = Field(default=None, max_length=10_000)
    """What the submission found not finite."""
    data_wait_s: float = Field(ge=0)
    """How long the trainer has waited for batches since it began: telemetry."""


class Rested(Spec):
    """Weights, if chosen, are in the shared memory; from here on the trainer does nothing. Numbers are telemetry."""

    kind: Literal["rested"] = "rested"
    values: dict[str, list[float]] = Field(default_factory=dict)
    """Losses and what else was reported, by name, of the steps in ``values["step"]``."""
    digests: dict[str, str] | None = None
    """Of the training state, at a traced step."""


class Taken(Spec):
    """Everything to save is at hand and will not change; what remains is writing."""

    kind: Literal["taken"] = "taken"


class Saved(Spec):
    """The state is on the disk."""

    kind: Literal["saved"] = "saved"


class Failed(Spec):
    """An exception ended the trainer."""

    kind: Literal["failed"] = "failed"
    reason: FailureReason
    error_type: str
    message: str
    traceback: str
    is_refusal: bool
    """Whether the request was impossible from the start."""


class Bye(Spec):
    """The last word: what the trainer says of itself, for the record."""

    kind: Literal["bye"] = "bye"
    num_recompiles: int = Field(ge=0)
    """Graphs that were compiled after the clock had begun."""
    num_batches: int = Field(default=0, ge=0)
    """Taken by the submission in the whole trial."""
    device_memory_most_bytes: int = Field(default=0, ge=0)
    switches: dict[str, str] = Field(default_factory=dict)
    """Threads, precision and backend flags as they are now."""


ToTrainer = Setup | Begin | Go | Save | End
ToReferee = Ready | Begun | Stopped | Rested | Taken | Saved | Failed | Bye
Message = ToTrainer | ToReferee

TO_TRAINER: TypeAdapter[ToTrainer] = TypeAdapter(Annotated[ToTrainer, Field(discriminator="kind")])
TO_REFEREE: TypeAdapter[ToReferee] = TypeAdapter(Annotated[ToReferee, Field(discriminator="kind")])
