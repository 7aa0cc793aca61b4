"""The training loop learns, averages its weights as it claims, and steps over what is not finite."""

import copy

import numpy as np
import pytest
import torch
from small_run import Normalised, figures, same, small, spoil
from torch import nn

from src.device import device
from src.loop import PATIENCE, TrainState, denoised_batches, evaluation_mode, held_out_psnr, training_loop
from src.metrics import psnr
from src.noise import GaussianNoiseDataset
from src.optim import ema_exponent
from src.unet import UNet


def test_the_loop_learns_and_reports_what_is_so():
    """On plain ramps the network beats doing nothing; the record's psnr is the model's own."""
    model, train_set, test_set, config = small(widths=(16, 32), epochs=60, evaluate_every=20)
    for record in training_loop(model, train_set, test_set, config):
        assert ("psnr" in record) == (record["epoch"] in (1, 2, 5, 20, 40, 60))
        if "psnr" in record:
            own = torch.cat([psnr(d, c) for _, c, d in denoised_batches(model, test_set)]).mean().item()
            assert record["psnr"] == pytest.approx(own, abs=1e-6)
    assert record["epoch"] == 60 and record["psnr"] > 14 + 6
    assert record["train_mse"] < 0.2**2 / 2
    assert list(record) == ["epoch", "train_mse", "psnr", "seconds"]


def test_the_ema_is_the_weighted_mean_it_claims_to_be():
    """Sum of weights_t * w(t) with w(t) = t^g - normalised, computed after the fact."""
    model, train_set, test_set, config = small(epochs=3, ema_rel_std=0.2, widths=(16, 24))
    state = TrainState.new(model, config, train_set.shape)
    seen = []

    def remember(*_):
        seen.append([p.detach().clone() for p in state.model.parameters()])

    state.optimizers[-1].register_step_post_hook(remember)
    list(training_loop(model, train_set, test_set, config, state))
    assert len(state.optimizers) == 2 and len(seen) == 6

    g = ema_exponent(0.2)
    assert np.sqrt((g + 1) / (g + 3)) / (g + 2) == pytest.approx(0.2, abs=1e-6)
    keep = [(1 - 1 / t) ** (g + 1) for t in range(1, len(seen) + 1)]
    weight = [(1 - k) * np.prod(keep[i + 1 :]) for i, k in enumerate(keep)]
    assert sum(weight) == pytest.approx(1)
    for i, parameter in enumerate(model.parameters()):
        mean = sum(w * step[i] for w, step in zip(weight, seen))
        assert torch.allclose(parameter, mean, atol=1e-6)


class First:
    """A data set's first `count` images, and so as many steps, with its noise."""

    def __init__(self, train_set, count):
        self.train_set, self.count = train_set, count

    def __len__(self):
        return self.count

    def __getattr__(self, name):
        return getattr(self.train_set, name)


@pytest.mark.parametrize("network", [lambda: UNet(1, (4, 8)), Normalised])
def test_a_step_that_is_not_finite_is_not_taken_and_is_counted(network):
    """The same as if that batch had not been there: weights, EMA and statistics stay finite and unmoved."""
    _, train_set, test_set, config = small(epochs=1)
    model, shorter = network(), network()
    spoil(train_set, 2)
    (record,) = training_loop(model, train_set, test_set, config)
    assert record["skipped"] == 1 and np.isfinite(record["train_mse"])
    _, train_set, _, _ = small()
    order = np.random.default_rng([config.seed, 0]).permutation(8)[:4]  # the first batch of the two
    batch = train_set.batch
    train_set.batch = lambda indices: batch(order.tolist())
    (one,) = training_loop(shorter, First(train_set, 4), test_set, config)
    assert same(model, shorter) and one["train_mse"] == record["train_mse"]


def test_too_many_such_steps_in_a_row_end_the_training():
    model, train_set, test_set, config = small(epochs=9, batch_size=1)
    spoil(train_set, 19, 21, 22, 23)  # the third epoch begins with the 17th call
    with pytest.raises(
        FloatingPointError, match=rf"gradient of epoch 3 was not finite {PATIENCE} times in a row.*Lower"
    ):
        list(training_loop(model, train_set, test_set, config))


def test_the_count_of_such_steps_goes_on_in_the_next_epoch_and_in_another_process():
    """Two at the end of an epoch and one at the beginning of the next are three in a row, also after a resume."""
    model, train_set, test_set, config = small(epochs=3, batch_size=1)
    spoil(train_set, 15, 16, 17)
    state = TrainState.new(model, config, train_set.shape)
    records = []
    with pytest.raises(FloatingPointError, match=r"epoch 3|epoch 2"):
        for record in training_loop(model, train_set, test_set, config, state):
            records.append(record)
            if record["epoch"] == 2:
                saved = copy.deepcopy(state.state_dict())
    assert [record.get("skipped", 0) for record in records] == [0, 2]

    model, train_set, test_set, config = small(epochs=3, batch_size=1)
    spoil(train_set, 1)
    again = TrainState.new(model, config, train_set.shape)
    again.load_state_dict(saved)
    assert again.skipped_in_a_row == 2
    with pytest.raises(FloatingPointError, match="epoch 3 was not finite 3 times in a row"):
        list(training_loop(model, train_set, test_set, config, again))


class SpoiltPair:
    """A data set with a pair of NaN in one epoch, whenever that pair is asked for; counts the epochs begun."""

    def __init__(self, train_set, epoch, indices):
        self.train_set, self.spoilt, self.begun = train_set, (epoch, set(indices)), []
        self.shape = train_set.shape

    def __len__(self):
        return len(self.train_set)

    def set_epoch(self, epoch):
        self.begun.append(epoch)
        self.train_set.set_epoch(epoch)

    def batch(self, indices):
        epoch, spoilt = self.spoilt
        factor = float("nan") if self.begun[-1] == epoch and spoilt & set(indices) else 1.0
        return tuple(x * factor for x in self.train_set.batch(indices))


@pytest.mark.parametrize("network", [lambda: UNet(1, (16, 24)), Normalised])
@pytest.mark.parametrize("indices, begun", [((), [0, 1, 2, 3]), ((5,), [0, 1, 1, 2, 3]), ((0,), [0, 1, 1, 2, 3])])
def test_a_check_that_lags_gives_the_same_run(network, indices, begun):
    """As a GPU checks, once an epoch, here on the CPU: to the bit what a check at each step gives."""
    ends = []
    for lags in (False, True):
        _, train_set, test_set, config = small(epochs=4, batch_size=2)
        model, spoilt = network(), SpoiltPair(train_set, 1, indices)
        state = TrainState.new(model, config, train_set.shape)
        assert state.check_lags == (device().type != "cpu")
        state.check_lags = lags
        ends.append((model, state, list(training_loop(model, spoilt, test_set, config, state))))
    (model, state, history), (lagging, lagging_state, lagging_history) = ends
    assert same(model, lagging) and same(state.model, lagging_state.model) and spoilt.begun == begun
    assert figures(history) == figures(lagging_history) == figures(lagging_state.history)
    assert [record.get("skipped", 0) for record in history] == [0, int(bool(indices)), 0, 0]
    assert state.step == lagging_state.step == 16 - bool(indices)


def test_a_check_that_lags_ends_a_run_that_diverged():
    model, train_set, test_set, config = small(epochs=3)
    state = TrainState.new(model, config, train_set.shape)
    state.check_lags, records = True, []
    with pytest.raises(FloatingPointError, match="gradient of epoch 2 was not finite 2 times in a row"):
        for record in training_loop(model, SpoiltPair(train_set, 1, range(8)), test_set, config, state):
            records.append(record)
    assert len(records) == len(state.history) == 1
    assert all(p.isfinite().all() for m in (model, state.model) for p in m.parameters())


def test_losses_by_name_and_by_function_train_alike():
    def absolute(denoised, clean):
        return (denoised - clean).abs().mean()

    by_name, by_function = small(loss="l1"), small(loss=absolute)
    a, b = (list(training_loop(*part))[-1] for part in (by_name, by_function))
    assert same(by_name[0], by_function[0]) and a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-5)
    assert a["train_mse"] != a["train_loss"] and "train_loss" not in list(training_loop(*small()))[-1]


def test_one_epoch_more_is_the_first_part_of_a_longer_run():
    short, long = small(epochs=2), small(epochs=4)
    assert figures(training_loop(*short)) == figures(training_loop(*long))[:2]


def test_a_batch_larger_than_the_set():
    with pytest.raises(ValueError, match="batch_size 9 exceeds the 8 training images; try batch_size=8"):
        next(training_loop(*small(batch_size=9)))


def test_the_global_generators_are_left_alone():
    before = torch.get_rng_state().tolist()
    list(training_loop(*small()))
    assert torch.get_rng_state().tolist() == before


def test_a_data_set_of_ones_own_is_trained_on():
    """Anything with batch, set_epoch, len, shape and config: here pairs that are drawn once."""

    class Frozen:
        shape, config = (1, 16, 16), {"name": "frozen"}

        def __init__(self):
            self.noisy, self.clean = small()[1].batch(list(range(8)))

        def __len__(self):
            return 8

        def set_epoch(self, epoch):
            pass

        def batch(self, indices):
            return self.noisy[indices], self.clean[indices]

    model, _, _, config = small()
    assert [record["epoch"] for record in training_loop(model, Frozen(), None, config)] == [1, 2]


def test_training_under_a_default_of_float64():
    """torch.set_default_dtype(float64) neither ends a run nor changes its weights."""
    model, *rest = small(widths=(16, 24), loss="ssim")
    other, *_ = small(widths=(16, 24))
    list(training_loop(model, *rest))
    torch.set_default_dtype(torch.float64)
    try:
        list(training_loop(other, *small(loss="ssim")[1:]))
    finally:
        torch.set_default_dtype(torch.float32)
    assert same(model, other)


# ---- evaluation -------------------------------------------------------------------------------


def frozen():
    """A network whose BatchNorm the user has frozen, in training mode else."""
    model = Normalised().train()
    model.body[1].eval()
    model.body[1].requires_grad_(False)
    return model


def test_each_module_gets_its_own_mode_back():
    model = frozen()
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
    assert model.training and model.body.training and not model.body[1].training
    with pytest.raises(ZeroDivisionError), evaluation_mode(model):
        _ = 1 / 0
    assert model.training and not model.body[1].training


def test_a_frozen_batch_norm_stays_frozen_in_evaluation_and_training():
    model, start = frozen(), frozen().state_dict()
    _, train_set, test_set, config = small()
    held_out_psnr(model, test_set)
    assert model.training and not model.body[1].training
    list(training_loop(model, train_set, test_set, config))
    norm = {name: value for name, value in model.state_dict().items() if name.startswith("body.1.")}
    assert len(norm) == 5 and all(torch.equal(value, start[name]) for name, value in norm.items())
    assert not torch.equal(model.state_dict()["body.0.weight"], start["body.0.weight"])
    assert not model.body[1].training


def test_a_batch_norm_that_is_not_frozen_learns_its_statistics():
    """As `fit` and a notebook call it: also where the network was left in evaluation mode."""
    for model in (Normalised(), Normalised().eval()):
        _, train_set, test_set, config = small()
        list(training_loop(model, train_set, test_set, config))
        assert not torch.equal(model.body[1].running_var, Normalised().body[1].running_var)
        assert model.body[1].num_batches_tracked == 4


def test_denoised_batches_are_clamped_in_order_and_of_any_batch_size():
    class Louder(nn.Module):  # and without parameters
        def forward(self, noisy):
            return 3 * noisy - 1

    _, _, test_set, _ = small()
    pairs = GaussianNoiseDataset(test_set.images[[0, 1] * 9], sigma=0.2, fixed=True)
    for batch_size in (1, 4, 16):
        parts = list(denoised_batches(Louder(), pairs, batch_size))
        noisy, clean, denoised = (torch.cat(part) for part in zip(*parts))
        assert len(noisy) == 18 and torch.equal(noisy, pairs.batch(range(18))[0])
        assert torch.equal(denoised, (3 * noisy - 1).clamp(0, 1)) and torch.equal(clean, pairs.batch(range(18))[1])


def test_a_black_image_that_comes_out_black_has_100_db():
    class Black(nn.Module):
        def forward(self, noisy):
            return torch.zeros_like(noisy)

    black = GaussianNoiseDataset(torch.zeros(2, 1, 16, 16), sigma=0.1, fixed=True)
    assert held_out_psnr(Black(), black) == 100


@pytest.mark.gpu
def test_on_a_gpu():
    model, *rest = small(epochs=3)
    history = list(training_loop(model, *rest))
    assert next(model.parameters()).device.type == device().type == "cuda"
    assert len(history) == 3 and history[-1]["train_mse"] < history[0]["train_mse"]
