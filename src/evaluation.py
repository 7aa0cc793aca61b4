"""Held-out figures: the network beside the classical filters, image by image."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from skimage.restoration import denoise_nl_means
from torch import Tensor, nn
from tqdm import tqdm

from . import checkpoint
from src.device import autocast, to_device
from src.metrics import check_window, psnr, ssim
from src.noise import GaussianNoiseDataset

BLURS = (0.6, 0.8, 1.0, 1.3, 1.7, 2.2)  # deviations in pixels tried by the blur


@dataclass(frozen=True)
class Scores:
    """What `evaluate` found out, image by image, in the order of the data set.

    clean, noisy: float32 [N, C, H, W]; noisy may leave [0, 1].
    denoised: method -> float32 [N, C, H, W] in [0, 1]; the network's is "unet".
    psnr, ssim: method -> float32 [N]; "noisy" among them. names: of the N images.
    """

    names: tuple[str, ...]
    clean: Tensor
    noisy: Tensor
    denoised: dict[str, Tensor]
    psnr: dict[str, Tensor]
    ssim: dict[str, Tensor]

    def __str__(self) -> str:
        """A table: mean and standard deviation over the images, the best last."""
        lines = [f"{len(self.names)} held-out images   PSNR in dB       SSIM"]
        for name in sorted(self.psnr, key=lambda name: self.psnr[name].mean()):
            p, s = self.psnr[name], self.ssim[name]
            spread = f"± {p.std(correction=0):.2f}" if len(p) > 1 else ""
            lines.append(f"{name:20s} {p.mean():6.2f} {spread:8s} {s.mean():.3f}")
        return "\n".join(lines)

    __repr__ = __str__


def check_noise(test_set: GaussianNoiseDataset) -> None:
    """ValueError where PSNR would be infinite, which no record can hold."""
    if test_set.sigma == 0:
        raise ValueError("sigma of the test set is 0, of which PSNR would be infinite; expected noise, try sigma=0.2")


def denoise_batches(model: nn.Module, pairs: GaussianNoiseDataset, batch: int = 16) -> Iterator[tuple[Tensor, ...]]:
    """Yield (noisy, clean, denoised) of the pairs in order, float32 [B, C, H, W] on the CPU.

    The model is put into evaluation mode; its output is clamped to [0, 1].
    """
    where = next(model.parameters()).device
    training, _ = model.training, model.eval()
    try:
        for first in range(0, len(pairs), batch):
            noisy, clean = pairs.batch(list(range(first, min(first + batch, len(pairs)))))
            with torch.inference_mode(), autocast(where):
                denoised = model(to_device(noisy, where)).clamp(0, 1)
            yield noisy, clean, denoised.float().cpu().contiguous()
    finally:
        model.train(training)


def evaluate(
    model: nn.Module, test_set: GaussianNoiseDataset, baselines: bool = True, run: str | None = None
) -> Scores:
    """The Scores, PSNR and SSIM per image, of the noisy picture, the classical filters and a network.

    model: takes and gives float32 [B, C, H, W] in [0, 1]; baselines: False leaves the filters out.

    The filters know sigma, the network does not need it:
    "blur"  a Gaussian blur, of the deviation in BLURS that is best for these very images
    "nlm"   non-local means (Buades, Coll, Morel 2005) by scikit-image
    "bm3d"  BM3D (Dabov and others 2007) where the user has installed it: pip install bm3d.
            Its licence is for non-commercial use only, so it cannot be a requirement here

    run: also write the figures into checkpoints/<run>/scores.json, beside the run's record.
    The test set should have been made with fixed=True, or the figures change with its epoch.
    BM3D takes a second or two an image, at every call.
    Raises ValueError if the set's images are smaller than SSIM's window, 11x11, its sigma is a range, or 0 with `run`.
    """
    check_window(test_set.shape)
    if run is not None:
        check_noise(test_set)
    if baselines and isinstance(test_set.sigma, tuple):
        raise ValueError(
            f"the filters must be told one sigma, the test set has the range {test_set.sigma}; "
            "evaluate at one sigma at a time, or pass baselines=False"
        )
    batches = [torch.cat(part) for part in zip(*denoise_batches(model, test_set))]
    noisy, clean, unet = batches
    denoised = {}
    if baselines:
        from torchvision.transforms.v2.functional import gaussian_blur  # brings 2 s of imports; denoising needs none

        blurred = [gaussian_blur(noisy, kernel_size=[13, 13], sigma=[s, s]).clamp(0, 1) for s in BLURS]
        denoised["blur"] = max(blurred, key=lambda image: psnr(image, clean).mean())
        filters = {"nlm": nlm, "bm3d": bm3d} if find_spec("bm3d") else {"nlm": nlm}
        for name, filter in filters.items():
            bar = tqdm(noisy, desc=name, leave=False, disable=None)
            denoised[name] = torch.stack([filter(image, test_set.sigma) for image in bar]).clamp(0, 1)
    denoised["unet"] = unet
    results = {"noisy": noisy, **denoised}
    scores = Scores(
        test_set.images.names, clean, noisy, denoised,
        {name: psnr(image, clean) for name, image in results.items()},
        {name: ssim(image, clean) for name, image in results.items()},
    )  # fmt: skip
    if run is not None:
        figures = dict(psnr=_figures(scores.psnr), ssim=_figures(scores.ssim))
        path = checkpoint.folder(run) / "scores.json"
        checkpoint.write_json(path, {"test_set": test_set.config, **figures})
    return scores


def _figures(per_image: dict[str, Tensor]) -> dict:
    """method -> mean and standard deviation over the images, and the images' own figures."""
    return {
        name: dict(
            mean=round(x.mean().item(), 4),
            std=round(x.std(correction=0).item(), 4),
            images=[round(value, 3) for value in x.tolist()],
        )
        for name, x in per_image.items()
    }


def nlm(noisy: Tensor, sigma: float) -> Tensor:
    """Non-local means of a float32 [C, H, W] in [0, 1]: h = 0.8 sigma, 5x5 patches within 13x13, as scikit-image
    advises for its fast mode."""
    image = noisy.permute(1, 2, 0).numpy()  # [H, W, C]
    result = denoise_nl_means(
        image, patch_size=5, patch_distance=6, h=0.8 * sigma, sigma=sigma, fast_mode=True, channel_axis=-1
    ).reshape(image.shape)  # scikit-image drops a single channel
    return torch.from_numpy(np.ascontiguousarray(result.transpose(2, 0, 1), dtype=np.float32))


def bm3d(noisy: Tensor, sigma: float) -> Tensor:
    """BM3D of a float32 [C, H, W] in [0, 1], where the user has installed it."""
    from bm3d import bm3d, bm3d_rgb  # optional, and slow to import

    image = noisy.permute(1, 2, 0).double().numpy()  # [H, W, C]
    result = (bm3d_rgb if image.shape[2] == 3 else bm3d)(image, sigma).reshape(image.shape)
    return torch.from_numpy(np.ascontiguousarray(result.transpose(2, 0, 1), dtype=np.float32))
