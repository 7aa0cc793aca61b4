"""Denoise photos of any size, and hide what a trained network finds in them.

    from src.photos import denoise, load_denoiser
    clean = denoise(image)                     # float32, uint8 or uint16 [C, H, W]

Commands: python -m src.photos denoise, python -m src.photos blur-out, python -m src.photos.benchmark.
"""

from src.photos.denoiser import denoise, load_denoiser

__all__ = ["denoise", "load_denoiser"]
