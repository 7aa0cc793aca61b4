"""A network leaves the project and gives the same images elsewhere."""

import sys

import pytest
import torch
from small_run import NO_ONNX
from torch import nn

from src import export
from src.checkpoint import load
from src.networks import LevelUNet, NoiseLevelNormalised
from src.networks.noise_level import with_sigma_channel
from src.unet import UNet


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    assert export.main([str(trained), "--to", str(folder)]) == int(NO_ONNX)
    assert (folder / "model.onnx").exists() != NO_ONNX
    return folder


def test_safetensors_give_the_network_back(exported, trained):
    model, original = export.load_safetensors(exported / "model.safetensors"), load(trained).cpu()
    assert type(model) is UNet and model.config == original.config and not model.training
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), original.state_dict().values()))


@pytest.mark.skipif(NO_ONNX, reason="needs the ONNX exporter of torch 2.15")
@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (2, 3, 33, 47), (1, 3, 5, 300), (1, 3, 1, 1)])
def test_onnx_gives_the_images_of_torch_at_any_size(exported, trained, shape):
    session = pytest.importorskip("onnxruntime").InferenceSession(exported / "model.onnx")
    noisy = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = load(trained).cpu()(noisy)
    denoised = torch.from_numpy(session.run(None, {"noisy": noisy.numpy()})[0])
    assert denoised.shape == noisy.shape and (denoised - expected).abs().max() < 1e-4


@pytest.mark.skipif(NO_ONNX, reason="needs the ONNX exporter of torch 2.15")
@pytest.mark.parametrize("model", [NoiseLevelNormalised(UNet(widths=(4, 8))), LevelUNet(widths=(4, 8))])
def test_onnx_takes_the_noise_level_as_a_channel(model, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    export.write_onnx(tmp_path / "model.onnx", model.eval())
    noisy = with_sigma_channel(torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0)), 0.1)
    with torch.inference_mode():
        expected = model(noisy)
    denoised = runtime.InferenceSession(tmp_path / "model.onnx").run(None, {"noisy": noisy.numpy()})[0]
    assert denoised.shape == (2, 3, 32, 48) and abs(denoised - expected.numpy()).max() < 1e-4


def test_the_model_card_says_what_was_trained(exported):
    card = (exported / "README.md").read_text(encoding="utf-8")
    assert "float32 `[B, 3, H, W]`" in card and '"sigma": 0.2' in card and "dB PSNR on held-out images" in card


def test_a_damaged_or_foreign_file_is_one_line(exported, tmp_path):
    from safetensors.torch import save_file

    damaged, foreign = tmp_path / "damaged.safetensors", tmp_path / "foreign.safetensors"
    damaged.write_bytes((exported / "model.safetensors").read_bytes()[:-100])
    save_file({"weight": torch.zeros(1)}, foreign, metadata={"network": '{"class": "os.system"}'})
    for path in (damaged, foreign):
        with pytest.raises(ValueError, match="damaged or not a network of this project"):
            export.load_safetensors(path)
    with pytest.raises(FileNotFoundError, match=r"expected a file of python -m src\.export"):
        export.load_safetensors(tmp_path / "absent.safetensors")


def test_a_class_of_the_users_own_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a network of src"):
        export.write_safetensors(tmp_path / "model.safetensors", nn.Conv2d(3, 3, 3))
    assert not list(tmp_path.iterdir())


def test_an_absent_run_or_package_is_one_line(trained, capsys, monkeypatch):
    assert export.main(["no-such-run"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert export.main([str(trained)]) == 1
    assert "pip install" in capsys.readouterr().err
