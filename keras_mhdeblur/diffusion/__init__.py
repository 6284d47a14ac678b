"""Deblurring by sampling: diffusion models, their networks and their restoration."""

from keras_mhdeblur.diffusion.diffusion_deblurrer import DiffusionDeblurrer
from keras_mhdeblur.diffusion.guidance import StructureGuidance
from keras_mhdeblur.diffusion.samplers import sample
from keras_mhdeblur.diffusion.schedule import NoiseSchedule
from keras_mhdeblur.diffusion.unet import UNet

__all__ = [
    "DiffusionDeblurrer",
    "NoiseSchedule",
    "StructureGuidance",
    "UNet",
    "sample",
]
