"""Speech recognition for any workload: corpus to prepared data, batches, front end, CTC, decoding, word errors."""
