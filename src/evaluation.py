"""PSNR and SSIM on held-out images: the network beside the classical filters."""

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from src.checkpoint import run_folder
from src.files import write_json
from src.loop import denoised_batches
from src.metrics import check_window, psnr, ssim
from src.noise import GaussianNoiseDataset

BLURS = (0.6, 0.8, 1.0, 1.3, 1.7, 2.2)  # standard deviations in pixels that the blur is tried with
LABELS = {"nlm": "NLM", "bm3d": "BM3D", "unet": "ours"}  # of the methods in tables and figures


@dataclass(frozen=True, repr=False)
class Scores:
    """What `evaluate` measured, image by image, in the order of the data set.

    clean, noisy: float32 [N, C, H, W]; noisy may leave [0, 1]. denoised: method ("unet" is the model) -> float32
    [N, C, H, W] in [0, 1]. psnr (dB), ssim: method -> float32 [N]; "noisy" among them. names: of the N images.
    """

    names: tuple[str, ...]
    clean: Tensor
    noisy: Tensor
    denoised: dict[str, Tensor]
    psnr: dict[str, Tensor]
    ssim: dict[str, Tensor]

    def __repr__(self) -> str:
        return self.table().to_string()

    def table(self):
        """A pandas DataFrame: mean and standard deviation over the images, a row a method, the best last."""
        import pandas

        rows = {name: [p.mean(), p.std(correction=0), self.ssim[name].mean()] for name, p in self.psnr.items()}
        table = pandas.DataFrame.from_dict(rows, "index", columns=["PSNR (dB)", "std", "SSIM"]).astype(float)
        return table.rename(index=LABELS).sort_values("PSNR (dB)").round({"PSNR (dB)": 2, "std": 2, "SSIM": 3})


def evaluate(model: nn.Module, test_set: GaussianNoiseDataset, baselines=True, run: str | None = None) -> Scores:
    """PSNR and SSIM of the noisy images, the classical filters and a network, image by image.

    model: float32 [B, C, H, W] in [0, 1] -> the same. test_set: made with fixed=True. The filters know sigma, but
    "blur"  Gaussian blur knows the clean images: it is the one of BLURS that is best for them
    "nlm"   non-local means (Buades, Coll, Morel 2005) by scikit-image
    "bm3d"  BM3D (Dabov et al. 2007) where it is installed; its licence is for non-commercial use only
    run: also write the scores into this run's scores.json. ValueError for images under 11x11 or a range of sigma.
    """
    check_window(test_set.shape)
    if baselines and isinstance(test_set.sigma, tuple):
        raise ValueError(f"the filters need one sigma, got the range {test_set.sigma}; pass baselines=False")
    noisy, clean, unet = (torch.cat(part) for part in zip(*denoised_batches(model, test_set)))
    denoised = (classical_filters(noisy, clean, test_set.sigma) if baselines else {}) | {"unet": unet}
    results = {"noisy": noisy, **denoised}
    scores = Scores(
        test_set.images.names, clean, noisy, denoised, {name: psnr(image, clean) for name, image in results.items()},
        {name: ssim(image, clean) for name, image in results.items()},
    )  # fmt: skip
    if run is not None:
        figures = {"psnr": _summary(scores.psnr), "ssim": _summary(scores.ssim)}
        write_json(run_folder(run) / "scores.json", {"test_set": test_set.config, **figures})
    return scores


def classical_filters(noisy: Tensor, clean: Tensor, sigma: float) -> dict[str, Tensor]:
    """method -> float32 [N, C, H, W] in [0, 1], see `evaluate`."""
    from torchvision.transforms.v2.functional import gaussian_blur  # takes 2 s to import; denoising needs none

    blurred = [gaussian_blur(noisy, kernel_size=[13, 13], sigma=[s, s]).clamp(0, 1) for s in BLURS]
    denoised = {"blur": max(blurred, key=lambda image: psnr(image, clean).mean())}
    for name, method in {"nlm": nlm, "bm3d": bm3d}.items():
        if name == "nlm" or find_spec(name):
            images = tqdm(noisy, desc=name, leave=False, disable=None)
            denoised[name] = torch.stack([method(image, sigma) for image in images]).clamp(0, 1)
    return denoised


def nlm(noisy: Tensor, sigma: float) -> Tensor:
    """Non-local means of float32 [C, H, W]: h = 0.8 sigma, 5x5 patches within 13x13, scikit-image's fast mode."""
    from skimage.restoration import denoise_nl_means

    options = dict(patch_size=5, patch_distance=6, h=0.8 * sigma, sigma=sigma, fast_mode=True, channel_axis=-1)
    return _filtered(noisy, lambda image: denoise_nl_means(image, **options))


def bm3d(noisy: Tensor, sigma: float) -> Tensor:
    """BM3D of float32 [C, H, W], where it is installed (pip install bm3d)."""
    from bm3d import bm3d, bm3d_rgb

    return _filtered(noisy.double(), lambda image: (bm3d_rgb if image.shape[2] == 3 else bm3d)(image, sigma))


def _filtered(noisy: Tensor, method) -> Tensor:
    image = noisy.permute(1, 2, 0).numpy()  # [H, W, C], of which a filter may drop a single channel
    result = method(image).reshape(image.shape).transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(result, dtype=np.float32))


def _summary(per_image: dict[str, Tensor]) -> dict[str, dict]:
    return {name: dict(mean=float(x.mean()), std=float(x.std(correction=0)), images=[round(v, 3) for v in x.tolist()])
            for name, x in per_image.items()}  # fmt: skip
