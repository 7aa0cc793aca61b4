"""A run's fingerprint holds what decides its weights and nothing else: no run is taken for another's."""

import json
import os
import subprocess
import sys
import types
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from small_run import figures, same, small
from torch import nn

from src.checkpoint import run_folder
from src.config import TrainConfig
from src.files import ROOT
from src.files.fingerprint import differences, loss_fingerprint, network_fingerprint
from src.images import ImageSet
from src.noise import GaussianNoiseDataset
from src.train import fit, run_fingerprint
from src.unet import UNet

# ---- what decides the weights of a run --------------------------------------------------------


def test_each_of_these_alone_changes_the_fingerprint():
    model, train_set, _, config = small()
    base = run_fingerprint(model, train_set, config)
    assert json.loads(json.dumps(base)) == base and base["network"]["class"] == "src.unet.UNet"
    images = train_set.images
    changed = images.pixels.clone()
    changed[0, 0, 0, 0] ^= 1
    noise = dict(sigma=0.2, crop_size=16, augment=True)
    start = {name: weights + 1 for name, weights in model.state_dict().items()}
    others = [
        run_fingerprint(UNet(1, (4, 8), seed=1), train_set, config),
        run_fingerprint(UNet(1, (4, 8), blocks=2), train_set, config),
        run_fingerprint(model, GaussianNoiseDataset(images, sigma=0.2, crop_size=16), config),
        run_fingerprint(model, GaussianNoiseDataset(images, **noise | dict(sigma=0.1)), config),
        run_fingerprint(model, GaussianNoiseDataset(images, **noise, seed=1), config),
        run_fingerprint(model, GaussianNoiseDataset(images[:7], **noise), config),
        run_fingerprint(model, GaussianNoiseDataset(ImageSet.from_pixels(changed), **noise), config),
        *(run_fingerprint(model, train_set, small(**setting)[3]) for setting in (
            dict(batch_size=2), dict(ema_rel_std=0.2), dict(lr=0.01), dict(adam_lr=0.01), dict(optimizer="adam"),
            dict(decay=100), dict(beta2=0.9), dict(warmup=3), dict(loss="l1"), dict(schedule="cosine"),
            dict(cooldown=1))),
        run_fingerprint(model, train_set, config, start),
        run_fingerprint(model, train_set, config, model.state_dict()),
    ]  # fmt: skip
    assert len({json.dumps(fingerprint) for fingerprint in [base, *others]}) == 1 + len(others)


def test_evaluation_and_length_are_no_part_of_it():
    model, train_set, _, config = small()
    base = run_fingerprint(model, train_set, config)
    for setting in (dict(epochs=9), dict(evaluate_every=7)):
        assert run_fingerprint(model, train_set, small(**setting)[3]) == base
    for setting in (dict(schedule="cosine"), dict(cooldown=1)):  # whose rates depend on the length
        two, nine = (small(epochs=epochs, **setting)[3] for epochs in (2, 9))
        assert run_fingerprint(model, train_set, two) != run_fingerprint(model, train_set, nine)
    assert "test_set" not in json.dumps(base) and "evaluate_every" not in json.dumps(base)


def test_another_test_set_or_frequency_evaluates_again_and_trains_nothing(tmp_path, monkeypatch):
    model, train_set, test_set, config = small(epochs=4, evaluate_every=1)
    first = fit(model, train_set, test_set, config, run=tmp_path / "run")
    trained = {name: value.clone() for name, value in model.state_dict().items()}
    other_set = GaussianNoiseDataset(test_set.images, sigma=0.1, seed=4, fixed=True)
    expected = small(epochs=2)[0]
    short = fit(expected, train_set, other_set, small(epochs=2)[3], run=tmp_path / "short")

    monkeypatch.setattr(GaussianNoiseDataset, "batch", _held_out_only(GaussianNoiseDataset.batch))
    again = fit(small()[0], train_set, test_set, small(epochs=4, evaluate_every=3)[3], run=tmp_path / "run")
    assert [r["train_mse"] for r in again] == [r["train_mse"] for r in first]
    model = small()[0]
    moved = fit(model, train_set, other_set, config, run=tmp_path / "run")
    assert all(torch.equal(value, trained[name]) for name, value in model.state_dict().items())
    assert [r["train_mse"] for r in moved] == [r["train_mse"] for r in first]
    assert moved[1]["psnr"] == pytest.approx(short[1]["psnr"], abs=1e-6)  # that of the kept weights of epoch 2
    assert moved[-1]["psnr"] != first[-1]["psnr"]
    record = json.loads((tmp_path / "run/record.json").read_text())
    assert figures(record["history"]) == figures(moved) and record["test_set"] == other_set.config
    assert figures(fit(small()[0], train_set, other_set, config, run=tmp_path / "run")) == figures(moved)


def _held_out_only(batch):
    def checked(self, indices):
        assert self.fixed, "a training step was taken"
        return batch(self, indices)

    return checked


def test_a_run_evaluated_for_the_first_time_gets_its_figures(tmp_path):
    model, train_set, test_set, config = small(epochs=3)
    alone = fit(model, train_set, None, config, run=tmp_path / "run")
    assert not any("psnr" in record for record in alone)
    evaluated = fit(small()[0], train_set, test_set, config, run=tmp_path / "run")
    straight = fit(small()[0], train_set, test_set, config, run=tmp_path / "straight")
    assert evaluated[-1]["psnr"] == straight[-1]["psnr"]


def test_differences_name_each_field():
    a, b = dict(network=dict(widths=[4, 8], seed=0), version=1), dict(network=dict(widths=[4, 6], seed=0), start="x")
    assert differences(a, b) == [
        "network.widths is [4, 8], not [4, 6]",
        "version is 1, not None",
        "start is None, not x",
    ]
    assert differences(a, a) == []


# ---- networks of the user's own ---------------------------------------------------------------

GAIN = 0.5


class Net(nn.Module):
    def __init__(self, gain=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.gain = nn.Conv2d(1, 1, 3, padding=1), gain

    def forward(self, noisy):
        return noisy - self.body(noisy)


def made(source, **names):
    """The class `Own` that a cell of a notebook with this source defines, one instance of it."""
    namespace = dict(__name__="__main__", nn=nn, torch=torch, F=F, Net=Net, **names)
    exec(source, namespace)
    return namespace["Own"]()


OWN = "class Own(Net):\n    def forward(self, noisy):\n        "
HELPED = "def helper(x):\n    return {} * x\n"

NETWORKS = {
    "forward": [OWN + "return noisy - self.body(noisy)", OWN + "return noisy + self.body(noisy)"],
    "a constant in forward": [OWN + f"return noisy - {c} * self.body(noisy)" for c in (0.1, 0.2)],
    "a global of forward": [f"GAIN = {c}\n" + OWN + "return noisy - GAIN * self.body(noisy)" for c in (0.1, 0.2)],
    "a function that forward calls": [
        HELPED.format(c) + OWN + "return noisy - helper(self.body(noisy))" for c in (0.1, 0.2)
    ],
    "a function called within a comprehension": [
        HELPED.format(c) + OWN + "return noisy - sum([helper(x) for x in (self.body(noisy),)])" for c in (0.1, 0.2)
    ],
    "a function called within a lambda": [
        HELPED.format(c) + OWN + "return noisy - (lambda x: helper(x))(self.body(noisy))" for c in (0.1, 0.2)
    ],
    "another method": [
        OWN + f"return noisy - self.scaled(noisy)\n    def scaled(self, x):\n        return {c} * self.body(x)"
        for c in (0.1, 0.2)
    ],
    "a static method": [
        OWN + f"return noisy - self.scaled(self.body(noisy))\n"
        f"    @staticmethod\n    def scaled(x):\n        return {c} * x"
        for c in (0.1, 0.2)
    ],
    "a property": [
        OWN + f"return noisy - self.scale * self.body(noisy)\n    @property\n    def scale(self):\n        return {c}"
        for c in (0.1, 0.2)
    ],
    "an attribute of the class": [
        f"class Own(Net):\n    scale = {c}\n    def forward(self, noisy):\n"
        "        return noisy - self.scale * self.body(noisy)"
        for c in (0.1, 0.2)
    ],
    "a default": [
        f"class Own(Net):\n    def forward(self, noisy, c={c}):\n        return noisy - c * self.body(noisy)"
        for c in (1, 2)
    ],
    "an attribute": [
        f"class Own(Net):\n    def __init__(self):\n        super().__init__({c})\n"
        "    def forward(self, noisy):\n        return noisy - self.gain * self.body(noisy)"
        for c in (1, 2)
    ],
    "a layer's setting": [
        f"class Own(Net):\n    def __init__(self):\n        super().__init__()\n"
        f"        self.body = nn.Sequential(self.body, nn.LeakyReLU({c}))"
        for c in (0.1, 0.2)
    ],
    "the initial weights": [
        f"class Own(Net):\n    def __init__(self):\n        super().__init__()\n"
        f"        nn.init.constant_(self.body.bias, {c})"
        for c in (0.1, 0.2)
    ],
}  # fmt: skip


@pytest.mark.parametrize("what", NETWORKS)
def test_networks_that_differ_in_one_thing_are_told_apart(what):
    first, again, other = (made(source) for source in (NETWORKS[what][0], *NETWORKS[what]))
    assert network_fingerprint(first) == network_fingerprint(again)
    assert network_fingerprint(first) != network_fingerprint(other)
    assert json.loads(json.dumps(network_fingerprint(other))) == network_fingerprint(other)


def test_a_frozen_layer_is_part_of_it():
    frozen = Net()
    frozen.body.bias.requires_grad_(False)
    assert network_fingerprint(frozen) != network_fingerprint(Net())


def test_a_function_of_a_users_module_is_part_of_it():
    """`import helpers` in the notebook, `helpers.scaled(x)` in forward: an edit of helpers.py makes another network."""
    found = []
    for factor in (0.1, 0.1, 0.2):
        helpers = types.ModuleType("helpers")
        exec(f"def scaled(x):\n    return {factor} * x", vars(helpers))
        own = OWN + "return noisy - helpers.scaled(self.body(noisy))"
        found.append(network_fingerprint(made(own, helpers=helpers)))
    assert found[0] == found[1] != found[2]


def test_functions_that_call_each_other_are_told_or_refused_in_one_line():
    source = (
        "def even(n, x):\n    return x if n == 0 else odd(n - 1, x)\n"
        "def odd(n, x):\n    return -x if n == 0 else even(n - 1, x)\n" + OWN + "return even(2, noisy)"
    )
    try:
        found = [network_fingerprint(made(text)) for text in (source, source, source.replace("-x", "x"))]
    except ValueError as error:
        assert "cannot be told" in str(error) and "\n" not in str(error)
    else:
        assert found[0] == found[1] != found[2]


def test_comments_names_of_variables_and_places_in_the_file_are_no_part_of_it():
    a = made(OWN + "return noisy - self.body(noisy)")
    b = made("\n\n# a comment\n" + OWN + '"""A docstring."""\n\n        return noisy - self.body(noisy)')
    assert network_fingerprint(a) == network_fingerprint(b)


def test_the_same_in_another_process():
    """No address, no hash of a string: what a process calls a network, the next one does too."""
    program = (
        "import sys; sys.path.insert(0, 'tests'); import json, test_fingerprint as t\n"
        "from src.files.fingerprint import *\n"
        "print(json.dumps([network_fingerprint(t.Net()),"
        " network_fingerprint(t.made(t.NETWORKS['a global of forward'][0])),"
        " loss_fingerprint(t.own_loss), loss_fingerprint(nn.HuberLoss(delta=0.1))]))"
    ).replace("import *", "import *\nfrom torch import nn")
    here = [network_fingerprint(Net()), network_fingerprint(made(NETWORKS["a global of forward"][0])),
            loss_fingerprint(own_loss), loss_fingerprint(nn.HuberLoss(delta=0.1))]  # fmt: skip
    env = os.environ | {"PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    there = json.loads(done.stdout)
    for a, b in zip(here, there):
        assert {k: v for k, v in a.items() if k != "class"} == {k: v for k, v in b.items() if k != "class"}


class Opaque:
    """Something whose content nobody can see."""

    __slots__ = ()

    def __call__(self, denoised, clean):
        return (denoised - clean).abs().mean()


def test_what_cannot_be_told_from_another_is_refused_in_one_line():
    for refused in (lambda: network_fingerprint(Net(gain=Opaque())), lambda: loss_fingerprint(Opaque()),
                    lambda: loss_fingerprint(partial(own_loss, Opaque()))):  # fmt: skip
        with pytest.raises(
            ValueError, match=r"^Opaque decides a run's weights and cannot be told from another"
        ) as caught:
            refused()
        assert "\n" not in str(caught.value)


def test_two_networks_that_differ_in_forward_do_not_share_a_run(tmp_path):
    """The second got the first's weights."""
    _, *rest = small()
    first, second = (made(source) for source in NETWORKS["forward"])
    fit(first, *rest, run=tmp_path / "run")
    with pytest.raises(ValueError, match=r"holds a run that differs: network.code is .*name another run"):
        fit(second, *rest, run=tmp_path / "run")
    again = made(NETWORKS["forward"][0])
    assert len(fit(again, *rest, run=tmp_path / "run")) == 2 and same(again, first)


def test_a_trained_network_of_ones_own_is_still_the_one_it_was(tmp_path):
    """The fit cell executed again finds its run; under another name it starts from the weights of its fingerprint."""
    _, *rest = small()
    model = made(NETWORKS["forward"][0])
    before = network_fingerprint(model)
    first = fit(model, *rest, run=tmp_path / "a")
    assert network_fingerprint(model) == before
    assert figures(fit(model, *rest, run=tmp_path / "a")) == figures(first)
    assert figures(fit(model, *rest, run=tmp_path / "b")) == figures(first)
    assert figures(fit(made(NETWORKS["forward"][0]), *rest, run=tmp_path / "b")) == figures(first)


# ---- losses of the user's own -----------------------------------------------------------------


def own_loss(denoised, clean, weight=1.0):
    return weight * (denoised - clean).abs().mean()


def weighted(weight):
    def loss(denoised, clean):
        return weight * F.l1_loss(denoised, clean)

    return loss


class Weighted(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, denoised, clean):
        return self.weight * F.l1_loss(denoised, clean)

    def named(self, denoised, clean):
        return self(denoised, clean)


LOSSES = {
    "lambdas": [lambda a, b: (a - b).abs().mean(), lambda a, b: (a - b).square().mean()],
    "lambdas of one line": [lambda a, b: 2 * F.l1_loss(a, b), lambda a, b: 3 * F.l1_loss(a, b)],
    "closures": [weighted(1), weighted(2)],
    "partials": [partial(own_loss, weight=1), partial(own_loss, weight=2)],
    "a partial and its function": [partial(own_loss, weight=1), own_loss],
    "torch's functions": [F.l1_loss, F.mse_loss],
    "torch's modules": [nn.L1Loss(), nn.MSELoss()],
    "settings of torch's modules": [nn.HuberLoss(delta=0.1), nn.HuberLoss(delta=0.2)],
    "modules": [Weighted(1), Weighted(2)],
    "methods of modules": [Weighted(1).named, Weighted(2).named],
    "a name and its function": ["l1", F.l1_loss],
    "tensors in closures": [weighted(torch.tensor(1.0)), weighted(torch.tensor(2.0))],
    "modules with weights": [weighted(nn.Linear(2, 2)), weighted(nn.Linear(2, 2))],
}


@pytest.mark.parametrize("what", LOSSES)
def test_losses_that_differ_in_one_thing_are_told_apart(what):
    a, b = (loss_fingerprint(loss) for loss in LOSSES[what])
    assert a != b and a == loss_fingerprint(LOSSES[what][0])
    assert json.loads(json.dumps([a, b])) == [a, b]


def test_two_lambdas_do_not_share_a_run(tmp_path):
    a, b = LOSSES["lambdas"]
    fit(*small(loss=a), run=tmp_path / "run")
    with pytest.raises(ValueError, match=r"holds a run that differs: config.loss.code is .*name another run"):
        fit(*small(loss=b), run=tmp_path / "run")
    with pytest.raises(ValueError, match=r"config.loss"):
        fit(*small(), run=tmp_path / "run")
    again = types.FunctionType(a.__code__.replace(co_firstlineno=1), {}, "<lambda>")  # the cell executed once more
    assert len(fit(*small(loss=again), run=tmp_path / "run")) == 2


@pytest.mark.parametrize(
    "loss", [partial(own_loss, weight=0.5), nn.L1Loss(), Weighted(2), lambda a, b: (a - b).abs().mean()]
)
def test_losses_of_every_kind_train(loss, tmp_path):
    history = fit(*small(loss=loss), run=tmp_path / "run")
    assert all(record["train_loss"] > 0 for record in history)


def test_a_loss_that_is_none_is_refused():
    for wrong in (None, 3, {}, [F.l1_loss]):
        with pytest.raises(ValueError, match=r"^loss must be one of mse, l1"):
            TrainConfig(loss=wrong)


# ---- names of runs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "run", ["", " ", ".", "..", "../x", "a/../../b", "./", "checkpoints", "checkpoints/", "checkpoints/.."]
)
def test_a_name_that_is_no_folder_of_its_own_is_refused(run):
    with pytest.raises(ValueError, match=r'^run must be a name such as "denoise" or an absolute path, got'):
        run_folder(run)
    with pytest.raises(ValueError, match=r"^run must be"):
        fit(*small(), run=run)


def test_a_name_and_the_folder_it_is_kept_in_are_one_run(tmp_path):
    here = ROOT / "checkpoints" / "x"
    assert run_folder("x") == run_folder("checkpoints/x") == run_folder(here) == run_folder(str(here)) == here
    assert run_folder("published/denoiser") == ROOT / "checkpoints" / "published" / "denoiser"
    assert run_folder(tmp_path / "x") == tmp_path / "x" and run_folder(f" {tmp_path}/x ") == tmp_path / "x"
