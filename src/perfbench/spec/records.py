"""Which measurements of a trial count. The engine, the reader and the checks all ask here.

It stands in ``spec`` because neither the engine nor the scoring may import the other.
"""

from __future__ import annotations

from collections.abc import Iterable

from perfbench.spec.result import Measurement, Resumed


def counted_measurements(records: Iterable[Measurement | Resumed]) -> list[Measurement]:
    """Return the measurements that count, in the order of their steps' first record.

    The rule:

    1. A resume voids what was measured after the step that it goes on from.
    2. A step is measured once: of several valid measurements of it the first counts, whatever the later ones say. Who
       evaluates is not to measure a step again: it has been measured, be it a moment ago or by an earlier attempt.
    """
    counted: dict[int, Measurement] = {}
    for record in records:
        if isinstance(record, Resumed):
            counted = {step: earlier for step, earlier in counted.items() if step <= record.from_step}
        else:
            counted.setdefault(record.step, record)
    return list(counted.values())
