"""A trial on one rank with a trainer of its own; this process is its referee, and a benchmark gets the records."""

from __future__ import annotations

from pathlib import Path

from perfbench.engine.referee.device_time import DeviceTime
from perfbench.engine.referee.link import Link
from perfbench.engine.referee.recorder import Recorder
from perfbench.engine.referee.resources import Resources
from perfbench.engine.referee.rest import TrainerTree, adopt_orphans
from perfbench.engine.referee.trainer_process import start_trainer
from perfbench.engine.wire.devices import device_of
from perfbench.engine.wire.messages import Place, Setup
from perfbench.engine.wire.team import Solo
from perfbench.launch.refereeing import Office
from perfbench.launch.room import Room
from perfbench.registry import build_workload
from perfbench.results.store import TrialFolder
from perfbench.spec.run import TrialSpec


def run_refereed(trial: TrialSpec, folder: TrialFolder, recorder: Recorder) -> None:
    """Run the trial to its end."""
    place = Place()
    room = Room.of(trial, folder, place)
    setup = Setup(trial=trial, place=place, timeout_s=1800.0, sandbox=room.sandbox)
    trainer = start_trainer(setup, environment=room.environment, folder=str(room.folder))
    adopt_orphans()
    device = device_of(trial, place)
    workload = build_workload(trial.workload, Path(trial.data_root))
    office = Office(trial=trial, workload=workload, folder=folder, recorder=recorder, team=Solo(), device=device)
    resources = Resources(device, trainer.process.pid)
    link = Link(trainer.channel, trainer.page, TrainerTree(DeviceTime(resources.handle)), trainer.describe_end)
    office.referee(link, trainer.weights_descriptor, resources).run(attempt=1, stop_requested=lambda: False)
    trainer.end()
