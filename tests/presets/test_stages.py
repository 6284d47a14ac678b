"""Presets whose network may end after fewer stages."""

from pathlib import Path

import numpy as np
import pytest

from keras_mhdeblur import Deblurrer, from_preset, networks
from keras_mhdeblur.presets import PresetError, litert

MAXIM = Path(__file__).parents[1] / "resources" / "golden" / "maxim_64.npz"


@pytest.fixture(scope="module")
def model():
    network = networks.MAXIM(
        width=4,
        stages=2,
        num_groups=1,
        num_bottlenecks=1,
        sides=(2, 2, 2),
        bottleneck_side=2,
        reduction=2,
        num_heads=2,
    )
    return Deblurrer(network, best_pair=(1, 1))


@pytest.fixture(scope="module")
def first_stage(model):
    network = model.network.with_stages(1)
    return Deblurrer(network, select="single", best_pair=(1, 0))


@pytest.fixture(scope="module")
def preset(model, first_stage, tmp_path_factory):
    folder = tmp_path_factory.mktemp("presets") / "two_stages"
    model.save_to_preset(folder, stages={1: first_stage})
    return folder


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((1, 13, 18, 3), "float32")


@pytest.mark.slow
def test_all_stages_by_default(preset, model, images):
    loaded = from_preset(preset)
    assert loaded.network.stages == 2
    assert (loaded.select, loaded.best_pair) == ("mean", (1, 1))
    np.testing.assert_array_equal(loaded(images), model(images))


@pytest.mark.slow
def test_fewer_stages_have_their_own_choices(preset, first_stage, images):
    loaded = from_preset(preset, stages=1)
    assert loaded.network.stages == 1
    assert (loaded.select, loaded.best_pair) == ("single", (1, 0))
    np.testing.assert_array_equal(loaded(images), first_stage(images))
    # The inner stage of the whole network.
    inner = from_preset(preset)(images, training=True)[1]
    np.testing.assert_allclose(loaded(images, training=True)[0], inner, atol=1e-6)


@pytest.mark.slow
def test_overrides_win(preset):
    loaded = from_preset(preset, stages=1, select="medoid", combine_heads=False)
    assert (loaded.select, loaded.best_pair) == ("medoid", None)


@pytest.mark.slow
def test_more_stages_than_there_are(preset):
    with pytest.raises(PresetError, match="stages"):
        from_preset(preset, stages=3)


@pytest.mark.slow
def test_litert_file_of_the_first_stage(model, first_stage, images, tmp_path):
    preset = tmp_path / "two_stages"
    model.save_to_preset(preset, litert=1, stages={1: first_stage})
    found = litert.litert_from_preset(preset, stages=1)
    assert (found.select, found.best_pair, found.tile_size) == ("single", (1, 0), 512)
    expected = first_stage(images, training=True)[0]
    np.testing.assert_allclose(found.heads(images[0])[None], expected, atol=1e-5)
    # That of all stages is not there, and the other must not stand in for it.
    assert litert.litert_from_preset(preset) is None


@pytest.mark.slow
def test_the_saved_first_stage_is_a_preset(preset, images, tmp_path):
    first = from_preset(preset, stages=1)
    first.save_to_preset(tmp_path / "one_stage")
    np.testing.assert_array_equal(
        from_preset(tmp_path / "one_stage")(images), first(images)
    )


def assert_published(stack, stage):
    """Head 0 of `maxim_mh_c` is the published one: weights in float16 cost 58 dB."""
    name = f"sub/stage_{stage}_supervised_attention_module_0/image"
    found = np.ravel(stack[0])
    difference = found[:: found.size // 48][:48] - np.load(MAXIM)[name]
    assert -10 * np.log10(np.square(difference).mean()) > 58


@pytest.fixture(scope="module")
def photo():
    return np.load(MAXIM)["input"].astype("float32") / 255


def test_published_image_is_a_hypothesis_of_the_first_stage(photo):
    first = litert.litert_from_preset("maxim_mh_c", stages=1)
    assert first.num_heads == 4
    assert_published(first.heads(photo), 0)


@pytest.mark.slow
def test_published_image_is_a_hypothesis_of_either_stage(photo):
    second, first = from_preset("maxim_mh_c")(photo[None], training=True)
    assert_published(first[0], 0)
    assert_published(second[0], 1)
