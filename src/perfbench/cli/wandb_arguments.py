"""What sync and wandb-dashboard share: which trials, and whose project."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_wandb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the trials that are read, and the W&B project that they go to."""
    parser.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help="folders with trials, at any depth (default: runs)"
    )
    parser.add_argument("--project", default="perfbench", help="W&B project (default: perfbench)")
    parser.add_argument("--entity", help="W&B user or team (default: yours)")
