"""Benchmarks of published boards: a YAML file each, which may extend another one of its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perfbench.errors import ConfigError, ResultsError, nearest_name_hint
from perfbench.results.benchmark import Benchmark
from perfbench.spec.yaml_files import read_yaml_mapping

_MOST_EXTENSIONS = 5


def benchmark_names(folder: Path) -> list[str]:
    """Return the names of a folder's benchmarks."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_benchmark_file(name: str, folder: Path) -> Benchmark:
    """Read a benchmark: a name of the folder's, or the path of a YAML file.

    ``extends: NAME`` lays the file over another one, mapping by mapping; ``budget_factor`` multiplies all budgets.

    Raises:
        ResultsError: If there is no such benchmark.
        ConfigError: If its file is not one.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        hint = nearest_name_hint(name, benchmark_names(folder), kind="benchmarks")
        raise ResultsError(f"no benchmark named {name!r}", where=str(path), hint=hint)
    plain = _extended(path, folder)
    factor = plain.get("budget_factor", 1.0)
    benchmark = Benchmark.from_mapping(plain, where=path.name)
    workloads = {
        workload: facts.model_copy(update={"max_submission_time_s": facts.max_submission_time_s * factor})
        for workload, facts in benchmark.workloads.items()
    }
    return benchmark.model_copy(update={"workloads": workloads})


def _extended(path: Path, folder: Path) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for _ in range(_MOST_EXTENSIONS):
        plain = _laid_over(read_yaml_mapping(path), plain)
        base = plain.pop("extends", None)
        if base is None:
            return plain
        if base not in benchmark_names(folder):
            hint = nearest_name_hint(str(base), benchmark_names(folder), kind="benchmarks")
            raise ConfigError(f"no benchmark named {base!r}", where=f"{path.name}.extends", hint=hint)
        path = folder / f"{base}.yaml"
    raise ConfigError(f"extends more than {_MOST_EXTENSIONS} others", where=path.name, hint="does it extend itself?")


def _laid_over(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    """Return both mappings as one; where both have a value the upper one's stands."""
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        merged[key] = _laid_over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
