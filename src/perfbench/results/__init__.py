"""Trial folders on disk: schema, append-only writer, reader. The records are the truth of the benchmark."""
