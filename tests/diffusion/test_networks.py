import numpy as np
import pytest
import tensorflow as tf

from keras_mhdeblur.diffusion import StructureGuidance, UNet


def randomize(network):
    """Weights that all have an effect; many start at zero."""
    rng = np.random.default_rng(0)
    arrays = network.get_weights()
    network.set_weights([x + rng.normal(0, 0.1, x.shape) for x in arrays])


def inputs(height, width, seed=0):
    """A blurry image, a noisy one and a noise level, of two samples."""
    rng = np.random.default_rng(seed)
    image, noisy = rng.uniform(-1, 1, (2, 2, height, width, 3)).astype("float32")
    return [tf.constant(x) for x in (image, noisy, np.float32([0.3, 0.9]))]


@pytest.mark.parametrize(
    "make, count",
    [
        (lambda: UNet(64), 26_242_115),
        (lambda: UNet(32, noise_input=True), 6_672_835),
        (lambda: StructureGuidance(32), 3_751_203),
    ],
    ids=["predictor", "denoiser", "guidance"],
)
def test_parameters_are_those_of_the_papers(make, count):
    assert make().count_params() == count


@pytest.fixture(scope="module")
def denoiser():
    network = UNet(2, noise_input=True)
    randomize(network)
    return network


def test_any_size_is_that_of_the_mirrored_image(denoiser):
    image, noisy, level = inputs(13, 18)
    found = denoiser([image, noisy, level])
    assert found.shape == image.shape
    padding = [(0, 0), (0, 3), (0, 6), (0, 0)]
    padded = [tf.pad(x, padding, "reflect") for x in (image, noisy)]
    expected = denoiser([*padded, level])[:, :13, :18]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_every_input_counts(denoiser):
    batch = inputs(16, 16)
    found = np.array(denoiser(batch))
    for index in range(3):
        other = [*batch]
        other[index] = 0.9 * batch[index]
        assert np.abs(denoiser(other) - found).mean(axis=(1, 2, 3)).min() > 1e-4


def test_guidance_is_of_the_gray_image_of_lower_size():
    guidance = StructureGuidance(2, 1)
    image = np.random.default_rng(0).random((2, 20, 16, 3), "float32")
    outputs = guidance(image)
    assert [x.shape[1:] for x in outputs] == [
        (12, 8, 4), (6, 4, 6), (3, 2, 8), (12, 8, 1), (6, 4, 1), (3, 2, 1),
    ]  # fmt: skip
    targets = guidance.targets(image)
    gray = np.pad(image, [(0, 0), (0, 4), (0, 0), (0, 0)], "reflect")
    gray = gray @ np.float32([0.299, 0.587, 0.114])
    for target, size in zip(targets, (2, 4, 8)):
        expected = gray.reshape(2, 24 // size, size, 16 // size, size).mean(axis=(2, 4))
        np.testing.assert_allclose(target[..., 0], expected, atol=1e-5)
    # Colours of one luma are one to it.
    colours = np.float32([[0.587, 0.0, 0.0], [0.0, 0.299, 0.0]])
    images = np.broadcast_to(colours[:, None, None], (2, 8, 8, 3))
    first, second = (np.array(x) for x in guidance.targets(images)[0])
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_guidance_starts_without_effect_and_is_trained(denoiser):
    guided, guidance = UNet(2, noise_input=True, guided=True), StructureGuidance(2, 1)
    weights = {weight.path: weight for weight in denoiser.weights}
    own = [weight for weight in guided.weights if weight.path not in weights]
    assert len(own) == 2 * 3 * 3 and not any(np.any(weight) for weight in own)
    for weight in guided.weights:
        if weight.path in weights:
            weight.assign(weights[weight.path])
    batch = inputs(16, 24)
    features = guidance(batch[0])[:3]
    np.testing.assert_allclose(guided([*batch, *features]), denoiser(batch), atol=1e-6)

    def gradients(of):
        with tf.GradientTape() as tape:
            found = guided([*batch, *guidance(batch[0])[:3]])
            loss = tf.reduce_mean(found**2)
        return tape.gradient(loss, of)

    assert all(np.any(gradient) for gradient in gradients(own))
    for weight in own:
        weight.assign(weight + 0.1)
    assert np.abs(guided([*batch, *features]) - denoiser(batch)).max() > 1e-3
    firsts = [guidance.get_layer(f"intro_{scale}").kernel for scale in (1, 2, 3)]
    assert all(np.any(gradient) for gradient in gradients(firsts))


@pytest.mark.parametrize("base", [0, 3])
def test_wrong_bases_are_refused(base):
    with pytest.raises(ValueError, match=f"Received: base={base}$"):
        UNet(base)
