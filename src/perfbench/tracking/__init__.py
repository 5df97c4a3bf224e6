"""Watching a run: best-effort mirrors of the records, which can never slow or stop a trial."""
