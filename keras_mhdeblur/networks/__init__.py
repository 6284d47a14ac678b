"""Restoration networks: images in, head stacks out."""

from keras_mhdeblur.networks import registry
from keras_mhdeblur.networks.ensemble import Ensemble
from keras_mhdeblur.networks.hinet import HINet
from keras_mhdeblur.networks.hinet.family import FAMILY as _HINET
from keras_mhdeblur.networks.maxim import MAXIM
from keras_mhdeblur.networks.maxim.family import FAMILY as _MAXIM
from keras_mhdeblur.networks.mprnet import MPRNet
from keras_mhdeblur.networks.mprnet.family import FAMILY as _MPRNET
from keras_mhdeblur.networks.nafnet import NAFNet
from keras_mhdeblur.networks.nafnet.family import FAMILY as _NAFNET
from keras_mhdeblur.networks.restormer import Restormer
from keras_mhdeblur.networks.restormer.family import FAMILY as _RESTORMER
from keras_mhdeblur.networks.xydeblur import XYDeblur
from keras_mhdeblur.networks.xydeblur.family import FAMILY as _XYDEBLUR

__all__ = [
    "Ensemble",
    "HINet",
    "MAXIM",
    "MPRNet",
    "NAFNet",
    "Restormer",
    "XYDeblur",
]

for _family in (_NAFNET, _RESTORMER, _HINET, _MPRNET, _XYDEBLUR, _MAXIM):
    registry.register(_family)
