"""Whether a mirror can work, asked before anything runs: a missing package, key or team is an error; a network is not.

W&B's part runs in a process of its own (``python -m perfbench.tracking.access``), so that a service that hangs is
given up after a few seconds.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable

from perfbench.errors import LaunchError
from perfbench.inherited import for_mirror
from perfbench.spec.run import NoTracking, TrackingSpec, WandbTracking

_PATIENCE_S = 15.0
RUN_GOES_ON = "the run goes on, and `perfbench sync` can follow"
_WITHOUT = "or use tracking=wandb_offline, or tracking=none"


def check_tracking(tracking: TrackingSpec, tell: Callable[[str], None]) -> None:
    """Check package, login and team; that the service does not answer is only told: a run goes on without it.

    Raises:
        LaunchError: If nothing could be mirrored as asked.
    """
    if isinstance(tracking, NoTracking):
        return
    package = "wandb" if isinstance(tracking, WandbTracking) else "tensorboard"
    if importlib.util.find_spec(package) is None:
        raise LaunchError(
            f"tracking={tracking.kind} needs the package {package}, which is not installed",
            where="tracking",
            hint=f"pip install 'perfbench[{package}]', or use tracking=none",
        )
    if isinstance(tracking, WandbTracking) and tracking.kind == "wandb":
        _check_service(tracking, tell)


def _check_service(tracking: WandbTracking, tell: Callable[[str], None]) -> None:
    command = [sys.executable, "-m", "perfbench.tracking.access", tracking.entity or ""]
    environment = for_mirror(os.environ) | {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
    try:
        asked = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE_S, check=False
        )
        answer = json.loads(asked.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        answer = {"unreachable": f"no answer in {_PATIENCE_S:g} s"}
    except (ValueError, IndexError):
        answer = {"unreachable": "no answer that can be read"}
    if "unreachable" in answer:
        tell(f"W&B cannot be reached now ({answer['unreachable']})")
    elif "refused" in answer:
        raise LaunchError(answer["refused"], where=answer["where"], hint=f"{answer['hint']}, {_WITHOUT}")


def _ask(entity: str) -> dict[str, str]:
    """Ask W&B who we are; returns what is wrong, if anything."""
    import wandb

    from perfbench.tracking.mirror import reason_of

    try:
        viewer = wandb.Api(timeout=int(_PATIENCE_S / 2)).viewer
        known = {str(viewer.username), str(viewer.entity), *map(str, viewer.teams)}
    except Exception as problem:  # noqa: BLE001 - W&B raises many classes; the text tells them apart
        text = reason_of(problem)
        if any(word in str(problem) for word in ("api_key", "API key", "401", "Unauthorized", "not logged in")):
            return {
                "refused": f"no valid W&B login: {text}",
                "where": "tracking",
                "hint": "run `wandb login`, or set WANDB_API_KEY",
            }
        return {"unreachable": text}
    if entity and entity not in known:
        return {
            "refused": f"your W&B login belongs to no user or team named {entity!r}",
            "where": "tracking.entity",
            "hint": f"it may write to {', '.join(sorted(known - {'None'}))}",
        }
    return {}


if __name__ == "__main__":
    print(json.dumps(_ask(sys.argv[1])))  # noqa: T201 - the answer
