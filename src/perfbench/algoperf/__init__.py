"""Submissions that were written for AlgoPerf, run as they are: recognised, presented with what they import, adapted."""
