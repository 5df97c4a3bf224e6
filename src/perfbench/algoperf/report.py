"""What a person is told of a folder of theirs before anything of it runs: what was recognised, and what cannot work."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from typing import Any

from perfbench.algoperf.folder import JAX, Folder, name_of
from perfbench.algoperf.imports import OFFERED, PRESENTED

_MOST_PLACES = 3
_EXCHANGES = frozenset(
    {
        "all_gather", "all_gather_into_tensor", "all_gather_object", "reduce_scatter", "reduce_scatter_tensor",
        "all_to_all", "all_to_all_single", "broadcast_object_list",
    }
)  # fmt: skip
"""Collectives of torch beyond the sum, which every file of theirs has."""


def recognised(folder: Folder, *, batch_sizes: dict[str, int], dropout: str) -> list[tuple[str, str]]:
    """Return what was recognised, each with its name.

    Args:
        folder: As read.
        batch_sizes: By our names of workloads, at full scale.
        dropout: ``as_run`` or ``file_only``.
    """
    files = ", ".join(str(path.relative_to(folder.path)) for path in folder.imports.used)
    as_family = {
        name
        for name, size in batch_sizes.items()
        for one in batch_sizes
        if name.startswith(f"{one}_") and batch_sizes[one] == size
    }
    sizes = ", ".join(f"{name} {size:,}" for name, size in sorted(batch_sizes.items()) if name not in as_family)
    return [
        ("generation", folder.generation),
        ("files", files),
        ("ruleset", _ruleset(folder)),
        ("dropout", _dropout(folder, dropout)),
        (
            "prepare_for_eval",
            "defined" if folder.defines_prepare_for_eval else "absent: training weights are evaluated",
        ),
        ("train_state", "taken: times are those of the last evaluation" if folder.takes_train_state else "not taken"),
        ("batch sizes", sizes or "none of a workload here: reference sizes"),
    ]


def doubts(folder: Folder, *, has_gpu: bool) -> Iterator[str]:
    """Yield what its text shows that cannot work here, or is not what its author may think."""
    for path, problem in folder.unreadable.items():
        if path in folder.imports.spelled.values():
            yield f"{path.relative_to(folder.path)} is no Python: {problem}"
    missing = folder.imports.missing
    theirs = [name for name in missing if name.partition(".")[0] in PRESENTED]
    if others := list(dict.fromkeys(name.partition(".")[0] for name in missing if name not in theirs)):
        yield f"imports what is not here: {', '.join(others)}"
    if theirs:
        yield f"imports more of AlgoPerf than {' and '.join(OFFERED)}, which is all there is: {_listed(theirs)}"
    for path, tree in folder.used():
        if used := _jax_modules(tree):
            what = "its schedules run, no step of it does" if used == ["optax"] else "only PyTorch runs here"
            yield f"{path.name} imports {', '.join(used)}: {what}"
    for kind, places in (
        ("asks model_fn for evaluation mode, which is refused", _places(folder, _is_eval_mode)),
        ("calls eval_model, which is refused", _places(folder, lambda node: _is_attribute(node, "eval_model"))),
        ("computes with logits; model and loss are one graph here", list(_uses_of_logits(folder))),
        ("asks for a CUDA device; this machine has none", [] if has_gpu else _places(folder, _is_cuda)),
        ("exchanges tensors itself, and a check has one rank only", _places(folder, _is_exchange)),
        (
            "registers a communication hook, which is refused",
            _places(folder, lambda node: _is_attribute(node, "register_comm_hook")),
        ),
        ("takes batch sizes by the number of ranks; they are those of one rank here", list(_ranks_in_sizes(folder))),
    ):
        if places:
            yield f"{kind}: {_listed(places)}"
    yield from _doubts_about_tuning(folder)


def _ruleset(folder: Folder) -> str:
    if folder.tuning_file is None:
        return "self-tuning (there is no tuning file)"
    plain = json.loads(folder.tuning_file.read_text(encoding="utf-8"))
    what = f"{len(plain)} points" if isinstance(plain, list) else f"{len(plain)} dimensions"
    return f"external, {what} of {folder.tuning_file.name}"


def _dropout(folder: Folder, dropout: str) -> str:
    if folder.passes_dropout:
        return "what the file passes to model_fn"
    if folder.tuning_file is None or "dropout_rate" not in _keys(folder):
        return "the workload's own"
    if dropout == "file_only":
        return "the workload's own: the point's dropout_rate is not used (options.dropout=file_only)"
    auxiliary = "its aux_dropout_rate" if "aux_dropout_rate" in _keys(folder) else "the workload's own"
    return (
        "the point's dropout_rate, set once as the runner did (options.dropout=as_run); "
        f"of attention or input, where a model has it apart, {auxiliary}"
    )


def _keys(folder: Folder) -> set[str]:
    """Return the names of the hyperparameters in the tuning file."""
    assert folder.tuning_file is not None, "asked only where there is one"
    plain: Any = json.loads(folder.tuning_file.read_text(encoding="utf-8"))
    return set(plain[0] if isinstance(plain, list) else plain)


def _doubts_about_tuning(folder: Folder) -> Iterator[str]:
    if folder.tuning_file is None:
        return
    keys = _keys(folder)
    attributes: dict[str, str] = {}
    mentioned: set[str] = set()
    for path, tree in folder.used():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                mentioned.add(node.value)
            elif isinstance(node, ast.Attribute):
                mentioned.add(node.attr)
                if isinstance(node.value, ast.Name) and node.value.id == "hyperparameters":
                    attributes.setdefault(node.attr, f"{path.name}:{node.lineno}")
    is_set_by_runner = set() if folder.passes_dropout else {"dropout_rate"}
    if unread := sorted(keys - mentioned - is_set_by_runner):
        yield f"no file reads these hyperparameters: {', '.join(unread)}"
    tested = {name for name in attributes if name in _tested(folder)}
    if absent := {name: place for name, place in attributes.items() if name not in keys | tested | {"_asdict"}}:
        shown = ", ".join(f"{name} ({place})" for name, place in sorted(absent.items()))
        yield f"{folder.tuning_file.name} lacks hyperparameters that are read: {shown}"


def _tested(folder: Folder) -> set[str]:
    """Return names that a file asks for with ``hasattr`` or ``getattr``."""
    calls = [call for name in ("hasattr", "getattr") for call in folder.calls(name)]
    names = [call.args[1].value for call in calls if len(call.args) > 1 and isinstance(call.args[1], ast.Constant)]
    return {name for name in names if isinstance(name, str)}


def _jax_modules(tree: ast.Module) -> list[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return sorted({name.partition(".")[0] for name in names} & JAX)


def _places(folder: Folder, is_meant: Callable[[ast.expr], bool]) -> list[str]:
    return [
        f"{path.name}:{node.lineno}"
        for path, tree in folder.used()
        for node in ast.walk(tree)
        if isinstance(node, ast.expr) and is_meant(node)
    ]


def _is_eval_mode(node: ast.expr) -> bool:
    return _is_attribute(node, "EVAL") and name_of(getattr(node, "value", node)) == "ForwardPassMode"


def _is_attribute(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == name


def _is_cuda(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and (node.value == "cuda" or node.value.startswith("cuda:"))
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "cuda"


def _is_exchange(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _EXCHANGES


def _ranks_in_sizes(folder: Folder) -> Iterator[str]:
    """Yield where ``get_batch_size`` uses the number of ranks, which a module's top takes from ``pytorch_setup``."""
    for path, tree in folder.used():
        numbers = set(_numbers_of_ranks(tree))
        for function in tree.body:
            if isinstance(function, ast.FunctionDef) and function.name == "get_batch_size":
                for node in ast.walk(function):
                    if isinstance(node, ast.Name) and node.id in numbers:
                        yield f"{path.name}:{node.lineno}"


def _numbers_of_ranks(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=[*_, ast.Name(id=name)])], value=ast.Call(func=called)) if (
                name_of(called) == "pytorch_setup"
            ):
                yield name
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Subscript(value=ast.Call(func=called), slice=ast.Constant(value=3 | -1)),
            ) if name_of(called) == "pytorch_setup":
                yield name


def _uses_of_logits(folder: Folder) -> Iterator[str]:
    """Yield where something else than ``loss_fn`` gets what ``model_fn`` returned."""
    for path, tree in folder.used():
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            names = set(_names_of_logits(function))
            given = {
                id(argument)
                for call in ast.walk(function)
                if isinstance(call, ast.Call) and name_of(call.func) == "loss_fn"
                for argument in (*call.args, *(keyword.value for keyword in call.keywords))
            }
            read = [node for node in ast.walk(function) if isinstance(node, ast.Name) and node.id in names]
            for node in read:
                if isinstance(node.ctx, ast.Load) and id(node) not in given:
                    yield f"{path.name}:{node.lineno}"


def _names_of_logits(function: ast.FunctionDef) -> Iterator[str]:
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=[ast.Name(id=name), *_])], value=ast.Call(func=called)) if (
                name_of(called) == "model_fn"
            ):
                if name != "_":
                    yield name


def _listed(places: list[str]) -> str:
    unique = list(dict.fromkeys(places))
    more = f" and {len(unique) - _MOST_PLACES} more" if len(unique) > _MOST_PLACES else ""
    return ", ".join(unique[:_MOST_PLACES]) + more
