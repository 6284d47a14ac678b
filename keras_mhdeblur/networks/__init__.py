"""Restoration networks: images in, head stacks out."""

from keras_mhdeblur.networks.hinet.hinet import HINet
from keras_mhdeblur.networks.maxim import MAXIM
from keras_mhdeblur.networks.mprnet.mprnet import MPRNet
from keras_mhdeblur.networks.nafnet.nafnet import NAFNet
from keras_mhdeblur.networks.restormer.restormer import Restormer
from keras_mhdeblur.networks.xydeblur.xydeblur import XYDeblur

__all__ = ["HINet", "MAXIM", "MPRNet", "NAFNet", "Restormer", "XYDeblur"]
