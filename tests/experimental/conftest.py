"""Labels of four kinds, and heads of which one is nearest to all of them."""

import types

import keras
import numpy as np
import pytest

import keras_mhdeblur as mhd

LABELS = np.array([-2, 0, 2, 4], "float32").reshape(-1, 1, 1, 1)
START = [0.5, 10.0, 11.0, 12.0]


def train(optimizer=None, loss=None, callbacks=(), steps=80, epochs=1):
    """Heads after training on the labels, which the images tell nothing about."""
    image = keras.Input((1, 1, 1))
    heads = mhd.layers.MultiHeadOutput(len(START), 1, 1, name="heads")
    network = keras.Model(image, heads(image, image))
    network.num_heads = len(START)
    heads.conv.bias.assign(START)
    model = mhd.Deblurrer(network, combine_heads=False)
    model.compile(
        optimizer or keras.optimizers.SGD(0.5),
        loss or mhd.losses.HypothesisLoss(mhd.losses.MSELoss(), combine=False),
        [mhd.metrics.HypothesisUsage()],
    )
    y = np.tile(LABELS, (steps // epochs, 1, 1, 1))
    history = model.fit(
        np.zeros_like(y), y, batch_size=len(LABELS), epochs=epochs, shuffle=False,
        callbacks=callbacks, verbose=0,
    ).history  # fmt: skip
    return heads.conv.bias.numpy(), history


@pytest.fixture(scope="session")
def toy():
    return types.SimpleNamespace(labels=LABELS.ravel(), start=START, train=train)
