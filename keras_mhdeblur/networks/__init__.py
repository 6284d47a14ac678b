"""Restoration networks: images in, head stacks out."""

from keras_mhdeblur.networks.hinet import HINet
from keras_mhdeblur.networks.maxim import MAXIM
from keras_mhdeblur.networks.mprnet import MPRNet
from keras_mhdeblur.networks.nafnet import NAFNet
from keras_mhdeblur.networks.restormer import Restormer
from keras_mhdeblur.networks.xydeblur import XYDeblur

__all__ = ["HINet", "MAXIM", "MPRNet", "NAFNet", "Restormer", "XYDeblur"]
