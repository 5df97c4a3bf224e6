"""The referee's end of the line to its trainer: ask, and wait for the answer while keeping an eye on the time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from perfbench.engine.referee.rest import Tree
from perfbench.engine.wire.channel import Channel, LineBroken
from perfbench.engine.wire.messages import (
    Begun,
    Bye,
    Failed,
    Message,
    Ready,
    Rested,
    Saved,
    Stopped,
    Taken,
    ToReferee,
)
from perfbench.engine.wire.page import Page

Answer = TypeVar("Answer", Ready, Begun, Stopped, Rested, Taken, Saved, Bye)
_LOOK_S = 0.05
"""How often what happens meanwhile is looked at. An answer is heard at once."""


class TrainerFailed(Exception):  # noqa: N818 - what happened, told by the trainer itself
    """The trainer told why it cannot go on."""

    def __init__(self, failed: Failed) -> None:
        self.failed = failed
        super().__init__(failed.message)


class TrainerEnded(Exception):  # noqa: N818 - what happened, seen by its parent
    """The trainer is gone without a word, or said something that it may not say."""


def _nothing() -> None:
    """Do nothing."""


class Link:
    """One trainer as its referee knows it.

    Args:
        channel: The line.
        page: The shared flags.
        tree: The trainer's processes.
        describe_end: Says how the process ended, once it has.
    """

    def __init__(
        self, channel: Channel[ToReferee], page: Page, tree: Tree, describe_end: Callable[[], str] = lambda: ""
    ) -> None:
        self._channel = channel
        self._describe_end = describe_end
        self.page = page
        self.tree = tree

    def say(self, message: Message) -> None:
        """Tell the trainer something.

        Raises:
            TrainerEnded: If it is gone.
        """
        try:
            self._channel.send(message)
        except LineBroken as problem:
            raise self._why(problem) from None

    def hear(self, expected: type[Answer], meanwhile: Callable[[], None] = _nothing) -> Answer:
        """Wait for the trainer's answer.

        Args:
            expected: What it has to be.
            meanwhile: Called again and again until it comes.

        Raises:
            TrainerFailed: If the trainer says that it failed.
            TrainerEnded: If it is gone, or says something else.
        """
        try:
            while (answer := self._channel.receive(_LOOK_S)) is None:
                meanwhile()
        except LineBroken as problem:
            raise self._why(problem) from None
        if isinstance(answer, Failed):
            raise TrainerFailed(answer)
        if not isinstance(answer, expected):
            raise TrainerEnded(f"the trainer said {answer.kind!r} out of turn")
        return answer

    def _why(self, problem: LineBroken) -> TrainerFailed | TrainerEnded:
        """Return why the line broke: what the trainer said last counts more than how it ended."""
        try:
            while (answer := self._channel.receive(0.0)) is not None:
                if isinstance(answer, Failed):
                    return TrainerFailed(answer)
        except LineBroken:
            pass
        return TrainerEnded(self._describe_end() or f"the trainer is gone ({problem})")
