"""Several networks as one."""

import keras
import numpy as np
import pytest

from keras_mhdeblur import Deblurrer, export, losses
from keras_mhdeblur.engines.keras_engine import KerasEngine
from keras_mhdeblur.evaluation import get_protocol
from keras_mhdeblur.networks import Ensemble, NAFNet, XYDeblur
from keras_mhdeblur.networks.registry import family_of, peak_bytes_per_pixel
from keras_mhdeblur.training import fit_heads


@pytest.fixture
def members(make_members):
    return make_members()


@pytest.fixture
def image(images):
    return images(2, 13, 18)


def assert_equal(found, expected):
    np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (found, expected)))


@pytest.mark.parametrize("training", [False, True])
def test_heads_are_those_of_the_members_in_their_order(members, image, training):
    naf, staged = members
    first, second = naf(image), staged(image)[0]
    assert first.shape[1] == 3 and second.shape[1] == 2
    expected = np.concatenate([first, second], axis=1)
    assert_equal(Ensemble([naf, staged])(image, training=training), expected)
    expected = np.concatenate([second, first], axis=1)
    assert_equal(Ensemble([staged, naf])(image, training=training), expected)


def test_facts_for_the_engines(members):
    network = Ensemble(members)
    assert (network.num_heads, network.num_head_images) == (5, 5)
    assert (network.tile_size, network.image_channels) == (48, 3)
    assert Ensemble([members[0], NAFNet(4, (0,), 1, (0,))]).tile_size is None
    # The larger one, and three more heads of three float32 values.
    assert peak_bytes_per_pixel(network) == 2500 + 3 * 12
    assert family_of(network) is None
    engine = KerasEngine.of(Deblurrer(network, tlc_train_size=8))
    assert (engine.multiple, engine.alignment, engine.context) == (12, 1, -16)
    engine = KerasEngine.of(
        Deblurrer(Ensemble([members[0], NAFNet(4, (0,), 1, (0,))]), tlc_train_size=8)
    )
    assert (engine.multiple, engine.alignment, engine.context) == (4, 4, 8)


def test_an_ensemble_stands_for_its_members(members, image):
    third = NAFNet(4, (0,), 1, (0,), num_heads=1)
    nested = Ensemble([Ensemble(members), third])
    assert nested.members == (*members, third)
    assert nested(image).shape == (2, 6, 13, 18, 3)


def test_all_pairs_combine(members, image):
    model = Deblurrer(Ensemble(members), best_pair=(4, 0))
    heads, hypotheses = model.network(image), model(image)
    assert hypotheses.shape == (2, 15, 13, 18, 3)
    pair = (keras.ops.convert_to_numpy(heads)[:, [4, 0]]).mean(axis=1)
    found = keras.ops.convert_to_numpy(hypotheses)[:, 10]
    np.testing.assert_allclose(found, pair, atol=1e-6)


def test_restores_and_exports(members, images):
    model = Deblurrer(Ensemble(members), tlc_train_size=8)
    blurry = images(1, 50, 70)
    heads = keras.ops.convert_to_numpy(model._inference_network()(blurry))
    expected = np.clip(heads[0].mean(axis=0), 0, 1)
    options = {"engine": "keras", "guard": False}
    whole = model.restore(blurry[0], tile=None, **options)
    assert len(whole.hypotheses) == 15
    np.testing.assert_allclose(whole.image, expected, atol=1e-5)
    graph = export.output_graph(model, "mean")
    np.testing.assert_allclose(graph(blurry)["image"][0], expected, atol=1e-5)
    tiled = model.restore(blurry[0], hypotheses=False, **options).image
    # Tiles of 48: NAFNet's windows of 12 do not see their ends in the middle.
    np.testing.assert_allclose(tiled[:12, :12], expected[:12, :12], atol=1e-5)
    folded = model.restore(blurry[0], tile=None, select=(3, 3), **options).image
    np.testing.assert_allclose(folded, np.clip(heads[0, 3], 0, 1), atol=1e-5)


def test_local_statistics_of_those_that_have_them(members, image):
    network = Ensemble(members)
    local = network.with_local_statistics(4)
    assert (local.members[0].tlc_train_size, local.members[1]) == (4, members[1])
    assert all(a is b for a, b in zip(network.weights, local.weights, strict=True))
    expected = [members[0].with_local_statistics(4)(image), members[1](image)[0]]
    assert_equal(local(image), np.concatenate(expected, axis=1))
    assert np.abs(local(image) - network(image)).max() > 1e-4
    assert_equal(local.with_local_statistics(None)(image), network(image))
    other = Ensemble([members[1], type(members[1])()])
    assert other.with_local_statistics(None) is other
    with pytest.raises(ValueError, match="Received: train_size=4"):
        other.with_local_statistics(4)


def test_fewer_stages_of_those_that_have_them(members, image):
    network = Ensemble(members)
    first = network.with_stages(1)
    assert (first.members[0], first.members[1].stages) == (members[0], 1)
    assert len(first.weights) < len(network.weights)
    assert all(any(a is b for b in network.weights) for a in first.weights)
    expected = [members[0](image), members[1](image)[1]]
    assert_equal(first(image), np.concatenate(expected, axis=1))
    assert network.with_stages(2) is network
    for stages, ensemble in ((3, network), (2, first)):
        with pytest.raises(ValueError, match=f"Received: stages={stages}"):
            ensemble.with_stages(stages)
    with pytest.raises(ValueError, match="have 0 stages.* Received: stages=1"):
        Ensemble([members[0], NAFNet(4, (0,), 1, (0,))]).with_stages(1)


def test_a_step_trains_every_member(members, images):
    model = Deblurrer(Ensemble(members))
    before = [np.array(weight) for weight in model.get_weights()]
    # Hypotheses that are not the nearest one are trained a little, too.
    model.compile("sgd", losses.HypothesisLoss(losses.MSELoss(), relaxation=0.1))
    assert len(model.trainable_variables) == len(before)
    model.fit(images(2, 12, 12), images(2, 12, 12)[::-1], batch_size=2, verbose=0)
    changed = [(a != b).any() for a, b in zip(before, model.get_weights())]
    count = len(members[0].weights)
    # Its inner stage is no output: the loss does not see the heads of stage 0.
    assert any(changed[:count]) and sum(changed[count:]) == 6


@pytest.mark.parametrize("trainable", [True, False])
def test_saved_model_is_the_same(members, image, tmp_path, trainable):
    network = Ensemble(members, name="pair", trainable=trainable)
    model = Deblurrer(network, tlc_train_size=8, best_pair=(4, 0), select="single")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.network.get_config() == network.get_config()
    assert (loaded.network.name, loaded.network.trainable) == ("pair", trainable)
    assert (loaded.select, loaded.best_pair) == ("single", (4, 0))
    assert_equal(loaded(image), model(image))


def test_images_are_not_rounded_in_mixed_precision(make_members, image):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = Ensemble(make_members())
        for member in network.members:
            for weight in member.head_layer.weights:
                weight.assign(0 * weight)
        for head in np.moveaxis(np.array(network(image)), 1, 0):
            np.testing.assert_array_equal(head, image)
    finally:
        keras.config.set_dtype_policy(policy)


def test_wrong_members(members):
    small = {"width": 4, "encoder_blocks": (0,), "decoder_blocks": (0,)}
    for wrong, message in (
        (members[:1], "two networks or more"),
        ([members[0], members[0]], "none of them twice"),
        (members[0], "a list of networks"),
        ([members[0], 3], "must be networks"),
        ([members[0], NAFNet(**small, image_channels=1)], "same `image_channels`"),
        ([members[0], XYDeblur(width=4, num_res_blocks=1)], "images by themselves"),
    ):
        with pytest.raises(ValueError, match=f"{message}.* Received: members="):
            Ensemble(wrong)


def test_what_is_of_one_network_is_refused(members, images):
    model = Deblurrer(Ensemble(members))
    with pytest.raises(ValueError, match="Received: model.network=Ensemble"):
        fit_heads(model, [(images(1, 8, 8), images(1, 8, 8))])
    with pytest.raises(ValueError, match="class Ensemble"):
        get_protocol("paper", model, "gopro")
