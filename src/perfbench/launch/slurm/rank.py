"""One rank under ``srun``: names from Slurm's environment, a watch over hangs and over the lease, then the worker."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from perfbench.engine.wire.messages import Place
from perfbench.errors import ExitCode
from perfbench.launch.ending import STOPPED, stopped_as_told
from perfbench.launch.slurm.lease import Lease
from perfbench.launch.watch import Watch
from perfbench.launch.worker import StopRequest, run_rank
from perfbench.results.store import TrialFolder


def main() -> int:
    """Run the rank that Slurm's environment describes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--holder", required=True, help="name of the attempt in the lease")
    parser.add_argument("--hang-timeout-s", type=float, required=True)
    parser.add_argument("--submission-folder")
    arguments = parser.parse_args()
    stop_requested = StopRequest()
    os.environ |= {
        "RANK": os.environ["SLURM_PROCID"],
        "WORLD_SIZE": os.environ["SLURM_NTASKS"],
        "LOCAL_RANK": os.environ["SLURM_LOCALID"],
    }
    folder = TrialFolder(arguments.folder)
    rank = Place.from_environment().rank
    watch = Watch(
        folder,
        attempt=arguments.attempt,
        rank=rank,
        timeout_s=arguments.hang_timeout_s,
        is_superseded=Lease(arguments.folder, arguments.holder).is_lost,
    )
    code = run_rank(
        folder,
        watch,
        stop_requested=stop_requested,
        submission_folder=arguments.submission_folder,
        hang_timeout_s=arguments.hang_timeout_s,
    )
    if code != STOPPED:
        return code
    if rank == 0:
        stopped_as_told(folder, arguments.attempt)
    return int(ExitCode.DONE)  # saved as asked: no reason for srun to kill the others


if __name__ == "__main__":
    sys.exit(main())
