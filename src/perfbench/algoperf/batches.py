"""Batches as their functions see them, and logits that are not computed: a token that only ``loss_fn`` can use.

Model and loss are one compiled graph here, so there are no logits between the two. ``model_fn`` returns a token that
knows the batch; ``loss_fn`` recognises it and calls the fused loss. Whatever else is done with it says what it is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from perfbench.api.workload import Batch, BatchNormMode, LossSums
from perfbench.errors import SubmissionError


class NotOffered(SubmissionError, AttributeError):  # noqa: N818 - what their code sees is an AttributeError
    """Something that AlgoPerf has and perfbench does not give a submission."""


class NoSuchPart(SubmissionError, KeyError):  # noqa: N818 - what their code sees is a KeyError
    """A part of a batch that a workload here does not have under that name."""

    def __str__(self) -> str:
        """Return the message as it is shown, not quoted as a key is."""
        return SubmissionError.__str__(self)


def refuse(what: str, *, hint: str, kind: type[SubmissionError] = SubmissionError) -> NoReturn:
    """Raise an error that names the line of the submission which asked for something.

    Raises:
        SubmissionError: Of that kind.
    """
    raise kind(what, where=_asking_line(), hint=hint)


def _asking_line() -> str:
    """Return file and line of the nearest caller outside of this package and of torch."""
    own = str(Path(__file__).parent)
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the documented way to look at callers
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(own) and "/torch/" not in file and not file.startswith("<"):
            return f"{Path(file).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


class Unseen:
    """Stands for something that a batch or a model has in no such form; used for its identity only.

    Args:
        name: What it is called in messages.
        hint: What to do instead.
    """

    def __init__(self, name: str, hint: str) -> None:
        self.name_for_people = name
        self.hint_for_people = hint

    def __getattr__(self, attribute: str) -> NoReturn:
        """Refuse every attribute that torch or a submission asks for, by name."""
        refuse(
            f"{self.name_for_people} are no tensor: {attribute!r} was asked of them",
            hint=self.hint_for_people,
            kind=NotOffered,
        )

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> NoReturn:  # noqa: ANN401
        """Refuse every function of torch, by name."""
        found = next(one for one in (*args, *(kwargs or {}).values()) if isinstance(one, Unseen))
        name = getattr(func, "__name__", str(func))
        refuse(
            f"{found.name_for_people} are no tensor: torch's {name!r} was called on them", hint=found.hint_for_people
        )

    def __repr__(self) -> str:
        """Return what it stands for."""
        return f"<{self.name_for_people}>"


def _refusing(name: str) -> Any:  # noqa: ANN401 - stands in for any operator
    def operator(self: Unseen, *_: object) -> NoReturn:
        refuse(f"{self.name_for_people} are no tensor: {name!r} was used on them", hint=self.hint_for_people)

    return operator


_OPERATORS = (
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv matmul rmatmul mod pow rpow neg pos abs invert "
    "lt le gt ge and or xor getitem setitem len iter bool float int index contains array call enter exit"
)
for _operator in _OPERATORS.split():
    setattr(Unseen, f"__{_operator}__", _refusing(f"__{_operator}__"))


class Logits(Unseen):
    """What ``model_fn`` returns: the batch, and how the model is to be run on it.

    Args:
        batch: Ours.
        labels: What ``loss_fn`` must be given as labels: the batch's own.
        batch_norm: Whether running statistics move.
        dropout_rate: ``None`` for the model's own.
    """

    batch: Batch
    labels: object
    batch_norm: BatchNormMode
    dropout_rate: float | None
    sums: LossSums | None

    def __init__(self, batch: Batch, labels: object, batch_norm: BatchNormMode, dropout_rate: float | None) -> None:
        super().__init__(
            "logits",
            "model and loss are one graph: give model_fn's result to loss_fn; losses of one's own need the native form",
        )
        self.batch = batch
        self.labels = labels
        self.batch_norm = batch_norm
        self.dropout_rate = dropout_rate
        self.sums = None


class TheirBatch(dict[str, Any]):
    """A batch with the names that their code reads; ``own`` is what the workload's loss takes."""

    def __init__(self, own: Batch) -> None:
        super().__init__(own)
        self.own = own
        if "targets" not in own:
            hint = f"this workload's batches hold {', '.join(own)}; whole batches go to model_fn, labels to loss_fn"
            self["targets"] = Unseen("targets", hint)

    def __missing__(self, key: object) -> NoReturn:
        """Refuse a name that there is not, and say which there are."""
        names = ", ".join(self.own)
        refuse(f"no {key!r} in this workload's batches", hint=f"they hold {names}", kind=NoSuchPart)


class InputQueue(Iterator[TheirBatch]):
    """Their view of the training batches: one object for the whole trial, so that it can be kept."""

    def __init__(self) -> None:
        self._batches: Iterator[Batch] = iter(())
        self.num_taken = 0

    def feed(self, batches: Iterator[Batch]) -> InputQueue:
        """Continue with what the engine gives."""
        self._batches = batches
        return self

    def __next__(self) -> TheirBatch:
        """Take the next batch."""
        batch = TheirBatch(next(self._batches))
        self.num_taken += 1
        return batch


def own_batch(batch: object) -> Batch:
    """Return what the loss takes of a batch: ours, or one that a submission made of parts of ours.

    Raises:
        SubmissionError: If it is no batch.
    """
    if isinstance(batch, TheirBatch):
        return batch.own
    if isinstance(batch, dict):
        return {name: value for name, value in batch.items() if not isinstance(value, Unseen) and value is not None}
    refuse(f"a batch is a dictionary, not {type(batch).__name__}", hint="give model_fn what data_selection returned")
