"""The networks that the notebooks compare with ours."""

from src.networks.ablations import BatchNormUNet, NoResidualUNet, NoSkipNoResidualUNet, NoSkipUNet
from src.networks.autoencoder import Autoencoder
from src.networks.depth import deepened
from src.networks.dncnn import DnCNN
from src.networks.level_unet import LevelUNet
from src.networks.mask_unet import FinderUNet, MaskUNet
from src.networks.noise_level import NoiseLevelNormalised, SigmaChannelDataset, estimate_sigma
from src.networks.unet_2021 import UNet2021

__all__ = [
    "Autoencoder", "BatchNormUNet", "DnCNN", "FinderUNet", "LevelUNet", "MaskUNet", "NoResidualUNet",
    "NoSkipNoResidualUNet", "NoSkipUNet", "NoiseLevelNormalised", "SigmaChannelDataset", "UNet2021", "deepened",
    "estimate_sigma",
]  # fmt: skip
