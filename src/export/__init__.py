"""Share a network: safetensors with a model card, and ONNX for programs without torch.

    python -m src.export 01_denoise                      # into checkpoints/01_denoise/export/
    python -m src.export published/denoiser --to shared  # the shipped denoiser, into shared/

model.safetensors holds the EMA weights, and in its header what builds the network again; `load_safetensors` reads it.
model.onnx takes float32 [B, C, H, W] of any size, `noisy`, and returns `denoised`; torch 2.15 writes it, 2.6 cannot.
Where the network is given the noise level, as the shipped ones, its map is a further channel in ONNX.
README.md is the model card. Needs the packages of NEEDED, the extra `export` of pyproject.toml.
"""

import argparse
import importlib
import json
import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from src.checkpoint import load, run_folder
from src.files import exit_code, one_line, printable, say, write_atomically, write_text

FILES = ("model.safetensors", "model.onnx", "README.md")
NEEDED = ("safetensors", "onnx", "onnxscript")


class AnySize(nn.Module):
    """The network on an input whose border is repeated to a multiple of its stride, in operations that ONNX has."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.stride = model, getattr(model, "stride", 1)

    def forward(self, noisy: Tensor) -> Tensor:
        height, width = noisy.shape[2:]
        rows, columns = (
            torch.arange(self.stride * ((side + self.stride - 1) // self.stride)).clamp(max=side - 1)
            for side in (height, width)
        )
        return self.model(noisy[:, :, rows][:, :, :, columns])[:, :, :height, :width]


def export_run(run: str | Path, to: str | Path | None = None) -> Path:
    """Write the EMA weights of a run as safetensors and ONNX with a model card; return the folder.

    Raises ValueError for a network of an unknown class, FileNotFoundError for a run that is not there, OSError where a
    package is missing.
    """
    try:
        for name in NEEDED:
            importlib.import_module(name)
    except ImportError as error:
        raise OSError(f"{error}; python -m pip install {' '.join(NEEDED)}") from None
    model = load(run).eval().cpu()
    record = json.loads((run_folder(run) / "record.json").read_text(encoding="utf-8"))
    folder = Path(to) if to is not None else run_folder(run) / "export"
    write_safetensors(folder / "model.safetensors", model)
    write_text(folder / "README.md", model_card(printable(run), model, record))
    write_onnx(folder / "model.onnx", model)
    return folder


def write_safetensors(path: Path, model: nn.Module) -> None:
    """The weights, with the network's class and config in the header: text, no code."""
    from safetensors.torch import save

    kind = type(model)
    if not kind.__module__.startswith("src.") or not hasattr(model, "config"):
        raise ValueError(
            f"cannot describe a {kind.__name__} in a file, expected a network of src; "
            "save your own class's weights with safetensors.torch.save_file"
        )
    network = {"class": f"{kind.__module__}.{kind.__qualname__}", **model.config}
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    content = save(weights, metadata={"network": json.dumps(network)})
    write_atomically(path, lambda file: file.write(content))


def load_safetensors(path: str | Path) -> nn.Module:
    """The network of a file that `python -m src.export` wrote, on the CPU, in evaluation mode.

    Builds classes of src only. Raises FileNotFoundError without the file and ValueError where it is damaged or was
    written by another program.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            network = json.loads((file.metadata() or {})["network"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        module, _, name = network.pop("class").rpartition(".")
        if not module.startswith("src."):
            raise ValueError(f"class {module}.{name} is not of src")
        model = getattr(importlib.import_module(module), name)(**network)
        model.load_state_dict(weights)
    except FileNotFoundError:
        raise FileNotFoundError(f"no {printable(path)}, expected a file of python -m src.export") from None
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError, ImportError, RuntimeError) as error:
        raise ValueError(
            f"{printable(path)} is damaged or not a network of this project ({one_line(error)}); export it again"
        ) from None
    return model.eval()


def write_onnx(path: Path, model: nn.Module) -> None:
    """An ONNX file of the network for any batch, height and width; the example's odd sizes keep those free."""
    example = torch.zeros(2, channels_of(model), 37, 53)
    axes = {0: "batch", 2: "height", 3: "width"}
    logging.disable(logging.ERROR)  # torch 2.6 logs each way that it tries in vain
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter speaks to its developers
            program = torch.onnx.export(
                AnySize(model), (example,), input_names=["noisy"], output_names=["denoised"],
                dynamic_shapes={"noisy": axes}, dynamo=True, verbose=False,
            )  # fmt: skip
        content = program.model_proto
        if any(content.graph.input[0].type.tensor_type.shape.dim[axis].dim_value for axis in axes):
            raise RuntimeError("it would take images of the example's size alone")
    except RuntimeError as error:
        raise ValueError(f"torch {torch.__version__} cannot write ONNX of it ({one_line(error)}); try 2.15") from None
    finally:
        logging.disable(logging.NOTSET)
    write_atomically(path, lambda file: file.write(content.SerializeToString()))


def channels_of(model: nn.Module) -> int:
    """Channels of the input, with the last one of networks that are given the noise level."""
    if getattr(model, "takes_level", False):
        return model.config.get("unet", model.config)["channels"] + 1
    return next(layer for layer in model.modules() if isinstance(layer, nn.Conv2d)).in_channels


def model_card(run: str, model: nn.Module, record: dict) -> str:
    """Markdown: what the network takes and returns, how it was trained, how to use both files."""
    fingerprint, history = record["fingerprint"], record["history"]
    evaluated = [entry["psnr"] for entry in history if "psnr" in entry]
    psnr = f"{evaluated[-1]:.2f} dB PSNR on held-out images" if evaluated else "not evaluated on held-out images"
    description = json.dumps(dict(fingerprint), indent=1)
    channels = channels_of(model)
    level = " The last channel holds the noise level at each pixel."
    level = level if getattr(model, "takes_level", False) else ""
    return f"""---
license: mit
library_name: pytorch
tags: [image-denoising]
---
# {type(model).__name__}, run {run}

Removes noise. Input: float32 `[B, {channels}, H, W]`, clean values in [0, 1], any size.{level} Output: the image, not
clamped.

- Parameters: {sum(p.numel() for p in model.parameters()):,}
- Epochs: {record["epochs"]}; {psnr}
- Limits: it knows the noise and the images that it was trained on, below.

```python
from src.export import load_safetensors

model = load_safetensors("model.safetensors")
```

```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
denoised = session.run(None, {{"noisy": noisy}})[0]  # numpy float32 [B, {channels}, H, W]
```

## How it was trained

```json
{description}
```
"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m src.export", description="Write a network for other programs.")
    parser.add_argument("run", help="a run's name, such as 01_denoise or published/denoiser, or its folder")
    parser.add_argument("--to", metavar="FOLDER", help="where to write; without it, export/ in the run's folder")
    arguments = parser.parse_args(argv)

    def work() -> None:
        folder = export_run(arguments.run, arguments.to)
        for name in FILES:
            say(f"{printable(folder / name)}  {(folder / name).stat().st_size / 1e6:.1f} MB")

    return exit_code(work)
