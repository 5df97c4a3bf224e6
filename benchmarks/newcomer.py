"""Minutes from nothing to the first compared pair: a new submission, two rates of it on a workload, and what differs.

Run it on a quiet machine, with data prepared and torch's caches as a second trial finds them: ``--cold`` empties them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RATES = ("1e-4", "1e-3")
LIMIT_MIN = 5.0


def main() -> int:
    """Type the commands of docs/how-to/exploring.md, and print how long each took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workload", default="mnist")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--cold", action="store_true", help="compile as on the first day, with empty caches")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        if arguments.cold:
            environment["TORCHINDUCTOR_CACHE_DIR"] = str(place / "cache")
        explored = place / "runs" / "idea" / "explored" / arguments.workload
        commands = {
            "new-submission": ["new-submission", "idea", "--folder", folder],
            "sweep of two rates": [
                "sweep",
                f"workload={arguments.workload}",
                f"submission={place / 'idea'}",
                f"hp.learning_rate={','.join(RATES)}",
                f"runs_root={place / 'runs'}",
                f"data_root={arguments.data_root.resolve()}",
            ],
            "compare": ["compare", *(str(explored / f"learning_rate={float(rate):.6g}") for rate in RATES)],
        }
        total_s = 0.0
        for name, command in commands.items():
            began_s = time.monotonic()
            subprocess.run([sys.executable, "-m", "perfbench", *command], env=environment, check=True)
            seconds = time.monotonic() - began_s
            total_s += seconds
            print(f"{name}: {seconds:.1f} s")
    print(f"in all: {total_s / 60:.1f} min (at most {LIMIT_MIN:g} wanted)")
    return int(total_s / 60 > LIMIT_MIN)


if __name__ == "__main__":
    sys.exit(main())
