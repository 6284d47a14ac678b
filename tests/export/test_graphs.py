"""The exported graph gives what `restore` gives, in one piece."""

import numpy as np
import pytest

from keras_mhdeblur import Deblurrer
from keras_mhdeblur.export import output_graph
from keras_mhdeblur.hypotheses.stacks import uncertainty
from keras_mhdeblur.networks import NAFNet


def arrays(graph, image):
    return {name: np.array(value) for name, value in graph(image).items()}


@pytest.mark.quick_kinds("NAFNet", "HINet", "XYDeblur")
def test_outputs_are_those_of_the_final_stage(kind, images):
    network = kind.small()
    # A pair that every kind combines.
    pair = network.num_head_images - 1, 0
    size = kind.statistics((8, 12))
    model = Deblurrer(network, best_pair=pair, tlc_train_size=size)
    image = images(2, 21, 30)
    stages = network.with_local_statistics(size)(image)
    heads = np.array(stages[0] if isinstance(stages, list) else stages)

    found = arrays(output_graph(model, "heads"), image)
    assert list(found) == ["heads"] and heads.min() < 0 and heads.max() > 1
    np.testing.assert_allclose(found["heads"], heads, atol=1e-5)

    found = arrays(output_graph(model, "all"), image)
    assert list(found) == ["image", "hypotheses", "uncertainty"]
    for index, stack in enumerate(heads):
        mean = np.clip(stack.mean(axis=0), 0, 1)
        hypotheses = np.clip(model.head_info.pairs.combined(stack), 0, 1)
        spread = uncertainty(stack, model.head_info.pairs)
        np.testing.assert_allclose(found["image"][index], mean, atol=1e-5)
        np.testing.assert_allclose(found["hypotheses"][index], hypotheses, atol=1e-5)
        np.testing.assert_allclose(found["uncertainty"][index], spread, atol=1e-5)

    (image,) = arrays(output_graph(model, "single"), image).values()
    expected = np.clip(heads[:, list(pair)].mean(axis=1), 0, 1)
    np.testing.assert_allclose(image, expected, atol=1e-5)


def test_outputs_are_those_of_restore(model, images):
    image = images(1, 13, 10)
    result = model.restore(image, tile=None, engine="keras")
    for output in "all", "mean", "hypotheses":
        for name, value in arrays(output_graph(model, output), image).items():
            np.testing.assert_allclose(value, getattr(result, name), atol=1e-5)
    for pair in (2, 0), [1, 2], 1:
        (found,) = arrays(output_graph(model, pair), image).values()
        result = model.restore(image, select=pair, tile=None, engine="keras")
        np.testing.assert_allclose(found, result.image, atol=1e-5)


@pytest.mark.parametrize(
    "size",
    [
        (1, 1),
        pytest.param((7, 40), marks=pytest.mark.slow),
        pytest.param((48, 33), marks=pytest.mark.slow),
        (160, 176),
    ],
)
def test_adaptive_mean(model, adaptive, images, size):
    model = adaptive(model.network)
    image = images(2, *size)
    expected = model.restore(image, tile=None, engine="keras").image
    mean = model.restore(image, select="mean", tile=None, engine="keras").image
    assert np.abs(expected - mean).max() > 1e-2
    for output in "selected", "adaptive", "all":
        found = arrays(output_graph(model, output), image)["image"]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_uncombined_heads(images):
    network = NAFNet(4, (1,), 1, (1,), num_heads=3)
    model = Deblurrer(network, combine_heads=False, select=(1, 1))
    image = images(1, 8, 9)
    result = model.restore(image, tile=None, engine="keras")
    found = arrays(output_graph(model, "all"), image)
    assert found["hypotheses"].shape == (1, 3, 8, 9, 3)
    for name, value in found.items():
        np.testing.assert_allclose(value, getattr(result, name), atol=1e-5)
    (head,) = arrays(output_graph(model, 1), image).values()
    np.testing.assert_allclose(head, found["image"], atol=1e-5)


def test_one_image_costs_what_one_head_costs(model):
    single = NAFNet(4, (0,), 1, (0,), num_heads=1)
    assert output_graph(model, (1, 0)).count_params() == single.count_params()


def test_local_statistics(model, images):
    image = images(1, 24, 32)

    def restored(model, tlc_train_size):
        graph = output_graph(model, tlc_train_size=tlc_train_size)
        return arrays(graph, image)["image"]

    plain = Deblurrer(model.network)
    whole, local = restored(plain, "model"), restored(model, "model")
    assert np.abs(whole - local).max() > 1e-4
    np.testing.assert_array_equal(restored(model, None), whole)
    np.testing.assert_array_equal(restored(plain, 8), local)
    np.testing.assert_array_equal(restored(plain, (8, 8)), local)


def test_fixed_shape(model):
    graph = output_graph(model, "all", size=(9, 14), batch=2)
    assert graph.input_shape == (2, 9, 14, 3)
    shapes = {name: tensor.shape for name, tensor in graph.output.items()}
    assert shapes["hypotheses"] == (2, 6, 9, 14, 3)
    assert shapes["uncertainty"] == (2, 9, 14)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"output": "medoid"}, "depends on the image.*Received: output='medoid'"),
        ({"output": np.argmax}, "depends on the image"),
        ({"output": "adaptive"}, "`output=.adaptive.` needs a model with"),
        ({"output": "hypothesis"}, "Did you mean 'hypotheses'.*output='hypothesis'"),
        ({"output": (0, 3)}, r"heads from 0 to 2. Received: output=\(0, 3\)"),
        ({"output": True}, "Received: output=True"),
        ({"size": (0, 5)}, r"Received: size=\(0, 5\)"),
        ({"size": 64}, "Received: size=64"),
        ({"batch": 0}, "Received: batch=0"),
        ({"tlc_train_size": 0}, "Received: tlc_train_size=0"),
        ({"tlc_train_size": "none"}, "Received: tlc_train_size='none'"),
    ],
)
def test_wrong_arguments(model, options, message):
    with pytest.raises(ValueError, match=message):
        output_graph(model, **options)
