"""CASPR against check figure C12 of the specification, its blocks, and how parameters are read as matrices."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from perfbench.api import ParameterRole
from perfbench.api.optim import NAdamW
from perfbench.api.optim.inverse_roots import Ridge, inverse_roots
from submissions.caspr_adaptive.blocks import largest_eigenvalue
from submissions.caspr_adaptive.matrices import MatrixView, matrix_views
from submissions.caspr_adaptive.optimizer import CasprAdaptive, CasprSettings
from tests.unit.check_problems import matrix_problem, trajectory

C12 = [
    [0.305000, -0.057500, 0.800000, 0.552500, 0.107000, -0.404000],
    [0.183621, 0.065798, 0.654568, 0.435022, -0.027672, -0.262910],
    [0.106761, 0.183823, 0.660731, 0.413823, -0.063846, -0.055328],
    [-0.082366, 0.242923, 0.650882, 0.372433, -0.088149, 0.027041],
    [-0.148058, 0.289338, 0.619062, 0.354363, -0.155257, 0.182522],
    [-0.118133, 0.277438, 0.565047, 0.349961, -0.231701, 0.328121],
    [-0.077690, 0.245542, 0.493188, 0.342501, -0.307579, 0.445521],
]
AS_STORED = MatrixView((0, 1), 2)


def settings(**changed: Any) -> CasprSettings:
    few: dict[str, Any] = {"max_dimension": 4, "root_period": 2, "first_preconditioned": 3, "weight_decay": 0.1}
    return CasprSettings(betas=(0.9, 0.99), **(few | changed))


def optimizer_of(weights: nn.Parameter, view: MatrixView = AS_STORED, **changed: Any) -> CasprAdaptive:
    return CasprAdaptive({"w": weights}, {"w": view}, settings(**changed), lr=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_takes_the_steps_of_the_entry(dtype: torch.dtype) -> None:  # C12
    weights, gradient = matrix_problem(dtype)

    visited = trajectory(optimizer_of(weights), weights, gradient, num_steps=7)

    torch.testing.assert_close(torch.tensor(visited), torch.tensor(C12), atol=2e-6, rtol=0)


def test_a_weight_that_is_stored_transposed_takes_the_same_steps() -> None:  # C12 again
    stored, gradient = matrix_problem()
    weights = nn.Parameter(stored.detach().T.contiguous())
    optimizer = optimizer_of(weights, MatrixView((1, 0), 2))

    for after in C12:
        weights.grad = gradient(weights.detach().T).T.contiguous()
        optimizer.step()
        torch.testing.assert_close(weights.detach().T.flatten(), torch.tensor(after), atol=2e-6, rtol=0)


def test_blocks_have_their_own_statistics_and_share_one_length() -> None:
    """Blocks of a 3 x 2 matrix, two rows at most, against the formulas written out for each block."""
    generator = torch.Generator().manual_seed(0)
    gradients = [torch.randn(3, 2, generator=generator, dtype=torch.float64) for _ in range(6)]
    weights = nn.Parameter(torch.zeros(3, 2, dtype=torch.float64))
    optimizer = optimizer_of(weights, MatrixView((0, 1), 3), max_dimension=2, weight_decay=0.0)
    for gradient in gradients:
        weights.grad = gradient
        before = weights.detach().clone()
        optimizer.step()

    ahead, graft = nadamw_by_hand(gradients, betas=(0.9, 0.99))
    expected = torch.cat([preconditioned_by_hand([g[rows] for g in gradients], ahead[rows]) for rows in ([0, 1], [2])])
    expected = expected * graft.norm() / expected.norm()
    torch.testing.assert_close(weights.detach() - before, -0.1 * expected, rtol=1e-6, atol=1e-9)


def nadamw_by_hand(gradients: list[Tensor], *, betas: tuple[float, float]) -> tuple[Tensor, Tensor]:
    first, second = torch.zeros_like(gradients[0]), torch.zeros_like(gradients[0])
    for gradient in gradients:
        first = betas[0] * first + (1 - betas[0]) * gradient
        second = betas[1] * second + (1 - betas[1]) * gradient**2
    t = len(gradients)
    ahead = (betas[0] * first + (1 - betas[0]) * gradients[-1]) / (1 - betas[0] ** t)
    return ahead, ahead / ((second / (1 - betas[1] ** t)).sqrt() + 1e-8)


def preconditioned_by_hand(gradients: list[Tensor], ahead: Tensor, *, period: int = 2, decay: float = 0.99) -> Tensor:
    m, n = gradients[0].shape
    eye_m, eye_n = torch.eye(m, dtype=torch.float64), torch.eye(n, dtype=torch.float64)
    left, before, right, p, q = 1e-6 * eye_m, 1e-6 * eye_m, eye_n, eye_m, eye_n

    def ridged(matrix: Tensor) -> Tensor:
        ridge = 1e-6 * float(torch.linalg.eigvalsh(matrix)[-1])
        return matrix + ridge * torch.eye(len(matrix), dtype=torch.float64)

    for t, gradient in enumerate(gradients, start=1):
        c = 1.0
        if max(t - 1, 1) % period == 0:
            c = max(float(torch.trace(p @ ridged(before) @ p)), 0.0) / m
            before = left
        left = decay * left + (1 - decay) * gradient @ gradient.T
        y = gradient.T @ p
        right = decay * c * right + (1 - decay) * y @ y.T / m
        if t % period == 0:
            p, q = (torch.linalg.inv(sqrt_of(ridged(matrix))) for matrix in (left, right))
    preconditioned: Tensor = p @ ahead @ q
    return preconditioned


def sqrt_of(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = vectors @ values.sqrt().diag() @ vectors.T
    return root


def test_it_is_nadamw_until_the_roots_are_used_and_for_what_is_no_matrix() -> None:
    caspr, nadamw = (nn.ParameterDict({"w": torch.ones(3, 2), "b": torch.ones(3)}) for _ in range(2))
    optimizer = CasprAdaptive(dict(caspr.items()), {"w": MatrixView((1, 0), 2)}, settings(), lr=0.1)
    reference = NAdamW(nadamw.values(), lr=0.1, betas=(0.9, 0.99), weight_decay=0.1)
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 5):
        for name, parameter in caspr.items():
            parameter.grad = nadamw[name].grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
        reference.step()

        torch.testing.assert_close(caspr["b"], nadamw["b"])
        assert torch.allclose(caspr["w"], nadamw["w"]) is (step < 3)


@pytest.mark.parametrize(("is_guarded", "is_finite"), [(False, False), (True, True)])
def test_a_matrix_without_any_gradient_becomes_nan_as_run_and_stays_where_guarded(
    is_guarded: bool, is_finite: bool
) -> None:
    weights = nn.Parameter(torch.ones(2, 3))
    optimizer = optimizer_of(weights, graft_is_guarded=is_guarded, weight_decay=0.0)
    for _ in range(3):
        weights.grad = torch.zeros(2, 3)
        optimizer.step()

    assert bool(torch.isfinite(weights).all()) is is_finite
    assert not is_finite or torch.equal(weights.detach(), torch.ones(2, 3))


def test_a_root_that_cannot_be_computed_stays_and_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, gradient = matrix_problem()
    optimizer = optimizer_of(weights)

    def fails(_: Tensor) -> tuple[Tensor, Tensor]:
        raise torch.linalg.LinAlgError  # type: ignore[attr-defined]  # public, but missing from the stubs

    monkeypatch.setattr(torch.linalg, "eigh", fails)
    trajectory(optimizer, weights, gradient, num_steps=4)

    assert optimizer.num_kept_roots == 4, "two roots at update 2, two at update 4"
    (block,) = optimizer._blocks[weights]
    assert torch.equal(block.left_root, torch.eye(2))


@pytest.mark.parametrize(("size", "tolerance"), [(1, 1e-6), (4, 1e-6), (30, 4e-4)])
def test_the_largest_eigenvalue_is_found_by_squaring(size: int, tolerance: float) -> None:
    root = torch.randn(size, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    matrix = root @ root.T

    assert float(largest_eigenvalue(matrix)) == pytest.approx(float(torch.linalg.eigvalsh(matrix)[-1]), rel=tolerance)
    assert float(largest_eigenvalue(torch.zeros(size, size))) == 0
    assert float(largest_eigenvalue(1e-20 * matrix.float())) == pytest.approx(1e-20 * float(matrix.norm(2)), rel=1e-3)


def test_a_relative_ridge_is_a_part_of_the_largest_eigenvalue() -> None:
    dense = torch.tensor([[2.0, 1.0], [1.0, 2.0]])  # eigenvalues 1 and 3
    diagonal = torch.diag(torch.tensor([1.0, 3.0]))

    for factor in (dense, diagonal):
        (root,), _ = inverse_roots([factor], [factor], exponents=[2], epsilon=Ridge(0.5, relative=0.25))
        eigenvalues = torch.linalg.eigvalsh(root)
        torch.testing.assert_close(eigenvalues, torch.tensor([4.25**-0.5, 2.25**-0.5]))


class Zoo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(5, 7)
        self.table = nn.Embedding(11, 3)
        self.huge = nn.Embedding(40_001, 1)
        self.image = nn.Conv2d(3, 4, (2, 5))
        self.up = nn.ConvTranspose2d(3, 4, (2, 5))
        self.depthwise = nn.Conv1d(6, 6, 9, groups=6)
        self.recurrent = nn.LSTM(5, 2)


def role_of(name: str) -> ParameterRole:
    if name.endswith("bias"):
        return ParameterRole.BIAS
    module = name.split(".", maxsplit=1)[0]
    roles = {"table": ParameterRole.EMBEDDING, "huge": ParameterRole.EMBEDDING}
    convolution = ParameterRole.CONV_WEIGHT if module in {"image", "up", "depthwise"} else ParameterRole.WEIGHT
    return roles.get(module, convolution)


def test_rows_are_inputs() -> None:
    model = Zoo()
    parameters = dict(model.named_parameters())
    views = matrix_views(model, {name: role_of(name) for name in parameters})

    shapes = {name: tuple(view.of(parameters[name]).shape) for name, view in views.items()}
    assert shapes == {
        "dense.weight": (5, 7),
        "table.weight": (11, 3),
        "image.weight": (2 * 5 * 3, 4),
        "up.weight": (2 * 5 * 3, 4),
        "depthwise.weight": (9, 6),
        "recurrent.weight_ih_l0": (5, 8),
        "recurrent.weight_hh_l0": (2, 8),
    }
    for name, view in views.items():
        assert torch.equal(view.back(view.of(parameters[name]), parameters[name].shape), parameters[name])
    image, up = parameters["image.weight"], parameters["up.weight"]
    assert views["image.weight"].of(image)[(1 * 5 + 2) * 3 + 2, 3] == image[3, 2, 1, 2], "kernel, then inputs"
    assert views["up.weight"].of(up)[(1 * 5 + 2) * 3 + 2, 3] == up[2, 3, 1, 2]
