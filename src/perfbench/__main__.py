"""``python -m perfbench`` is ``perfbench``."""

import sys

from perfbench.cli.main import main

sys.exit(main())
