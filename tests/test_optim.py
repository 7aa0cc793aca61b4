"""Muon against the singular value decomposition and the laws it obeys; learning rates; the EMA's exponent."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from src.config import TrainConfig
from src.optim import Muon, ema_exponent, learning_rate_factor, orthogonalise


def matrices(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(3, 24, 216), (2, 96, 48), (1, 16, 16)])
def test_orthogonalise_is_the_polar_factor_about(shape):
    given = matrices(*shape)
    u, _, vt = torch.linalg.svd(given, full_matrices=False)
    result = orthogonalise(given)
    assert result.shape == given.shape and result.dtype == torch.float32
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.3 and values.max() < 1.3
    cosine = torch.nn.functional.cosine_similarity(result.flatten(1), (u @ vt).flatten(1))
    assert cosine.min() > 0.97


def test_a_zero_gradient_moves_nothing():
    weight = torch.nn.Parameter(matrices(16, 32))
    before = weight.detach().clone()
    weight.grad = torch.zeros_like(weight)
    Muon([weight], lr=0.1).step()
    assert torch.equal(weight, before)


def test_the_first_step_is_as_large_as_claimed():
    """0.2 * sqrt(C) times R orthonormal rows has a root mean square of 0.2; the values are about 1."""
    weight = torch.nn.Parameter(torch.zeros(32, 16, 3, 3))
    weight.grad = matrices(32, 16, 3, 3)
    Muon([weight], lr=1.0).step()
    assert weight.square().mean().sqrt().item() == pytest.approx(0.2, rel=0.2)


def test_the_scale_of_the_gradients_does_not_matter():
    steps = []
    for scale in (1.0, 2.0**-9):  # a power of two: exact in every float format
        weight = torch.nn.Parameter(torch.zeros(24, 48))
        optimizer = Muon([weight], lr=0.01)
        for i in range(5):
            weight.grad = matrices(24, 48, seed=i) * scale
            optimizer.step()
        steps.append(weight.detach())
    assert torch.allclose(*steps, atol=1e-4)


def test_weights_of_one_shape_do_not_mix():
    """Stepped together or each alone: the same."""

    def run(groups):
        weights = [torch.nn.Parameter(torch.zeros(20, 16, 3, 3)) for _ in range(2)]
        optimizers = [Muon([weights[i] for i in group], lr=0.01) for group in groups]
        for step in range(3):
            for i, weight in enumerate(weights):
                weight.grad = matrices(20, 16, 3, 3, seed=10 * step + i)
            for optimizer in optimizers:
                optimizer.step()
        return weights

    for a, b in zip(run([[0, 1]]), run([[0], [1]])):
        assert torch.allclose(a, b, atol=1e-3)


def test_repeats_and_continues_to_the_bit():
    def problem():
        return torch.nn.Parameter(torch.zeros(16, 24))

    def run(weight, optimizer, steps):
        for i in steps:
            weight.grad = weight.detach() - matrices(16, 24, seed=i)
            optimizer.step()

    whole, first = problem(), problem()
    run(whole, Muon([whole], lr=0.01), range(8))
    half = Muon([first], lr=0.01)
    run(first, half, range(4))
    second = torch.nn.Parameter(first.detach().clone())
    rest = Muon([second], lr=0.01)
    rest.load_state_dict(half.state_dict())
    run(second, rest, range(4, 8))
    assert torch.equal(whole, second)


def test_converges_on_a_badly_conditioned_problem():
    """min |(W - T) A| with singular values of A from 1 to 0.01: far below where it started."""
    scale = torch.logspace(0, -2, 32)
    target, weight = matrices(16, 32), torch.nn.Parameter(torch.zeros(16, 32))
    optimizer = Muon([weight], lr=0.05)
    start = ((weight - target) * scale).square().sum().item()
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 300)
        optimizer.zero_grad()
        loss = ((weight - target) * scale).square().sum()
        loss.backward()
        optimizer.step()
    assert loss.item() < 5e-3 * start


# ---- learning rates ---------------------------------------------------------------------------


def factors(config, steps):
    return [learning_rate_factor(config, step, steps) for step in range(1, steps + 1)]


def test_the_learning_rate_does_not_depend_on_the_length_of_a_run():
    config = TrainConfig(epochs=4)
    assert factors(config, 40) == factors(replace(config, epochs=8), 80)[:40]
    assert factors(config, 40)[:10] == pytest.approx([n / 10 / (1 + n / 2000) ** 0.5 for n in range(1, 11)])
    assert learning_rate_factor(TrainConfig(warmup=0), 6000, 10_000) == 0.5  # 1 / sqrt(1 + 6000 / 2000)


def test_a_cosine_falls_to_zero():
    cosine = TrainConfig(schedule="cosine", warmup=0)
    assert [round(learning_rate_factor(cosine, step, 100), 6) for step in (1, 50, 100)] == [0.999753, 0.5, 0]
    assert factors(cosine, 10) == sorted(factors(cosine, 10), reverse=True)


def test_a_cooldown_is_a_line_to_zero_over_the_last_epochs():
    plain, cooled = (factors(TrainConfig(epochs=4, cooldown=epochs), 40) for epochs in (0, 2))
    ratios = np.divide(cooled, plain)
    assert ratios[:20].tolist() == [1.0] * 20 and np.allclose(ratios[20:], np.linspace(1, 0, 21)[1:])


@pytest.mark.parametrize("relative_std", [0.01, 0.05, 0.1, 0.2])
def test_the_exponent_gives_the_standard_deviation_asked_for(relative_std):
    """Of the density t^g on (0, 1], by numbers."""
    g, t = ema_exponent(relative_std), (np.arange(200_000) + 0.5) / 200_000
    weight = t**g / (t**g).sum()
    mean = (weight * t).sum()
    assert ((weight * (t - mean) ** 2).sum()) ** 0.5 == pytest.approx(relative_std, rel=1e-3)
