"""What every test process does first."""

import submitit  # noqa: F401 - its first import closes all handlers of logging, absl's with the stream pytest captures by
