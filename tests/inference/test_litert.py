"""The LiteRT engine against the Keras engine, and where its files come from."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from keras_mhdeblur import Deblurrer, cli, from_preset, inference
from keras_mhdeblur.engines.keras_engine import KerasEngine
from keras_mhdeblur.engines.litert_model import LiteRTModel
from keras_mhdeblur.inference.engine_choice import choose_engine
from keras_mhdeblur.networks import NAFNet
from keras_mhdeblur.presets import litert

pytestmark = pytest.mark.usefixtures("without_guard")
# Of three heads.
COEFFICIENTS = np.random.default_rng(2).normal(0, 0.3, (3, 10)).tolist()


def tiny_model(**kwargs):
    network = NAFNet(
        4, encoder_blocks=(0,), middle_blocks=1, decoder_blocks=(0,), num_heads=3
    )
    rng = np.random.default_rng(0)
    for weight in network.weights:
        weight.assign(weight + rng.normal(0, 0.1, weight.shape))
    return Deblurrer(network, **kwargs)


@pytest.fixture(scope="module")
def model():
    return tiny_model(tlc_train_size=16, adaptive_weights=COEFFICIENTS)


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(1)
    return rng.uniform(0.2, 0.8, (41, 57, 3)).astype("float32")


@pytest.fixture(scope="module")
def preset(model, tmp_path_factory):
    """A preset with a LiteRT file."""
    folder = tmp_path_factory.mktemp("presets") / "tiny"
    model.best_pair = (2, 0)
    model.save_to_preset(folder, litert=True)
    return folder


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"hypotheses": False},
        {"select": "medoid"},
        {"select": "adaptive", "hypotheses": False},
        {"select": (2, 1), "tile": 32},
        pytest.param({"tlc_train_size": None}, marks=pytest.mark.slow),
    ],
)
def test_equals_the_keras_engine(model, image, options):
    expected = model.restore(image, engine="keras", **options)
    result = model.restore(image, engine="litert", **options)
    assert np.abs(expected.image - image).max() > 0.05
    np.testing.assert_allclose(result.image, expected.image, atol=1e-5)
    if options.get("hypotheses", True):
        np.testing.assert_allclose(result.hypotheses, expected.hypotheses, atol=1e-5)
        np.testing.assert_allclose(result.uncertainty, expected.uncertainty, atol=1e-5)


def test_auto_takes_a_file_of_the_present_weights_only(image):
    model = tiny_model(tlc_train_size=8)
    assert isinstance(choose_engine(model, "auto"), KerasEngine)
    first = choose_engine(model, "litert")
    assert isinstance(first, LiteRTModel)
    assert choose_engine(model, "auto") is first
    bias = model.network.get_layer("heads").weights[1]
    bias.assign(bias + 0.1)
    assert isinstance(choose_engine(model, "auto"), KerasEngine)
    np.testing.assert_allclose(
        model.restore(image, engine="litert").image,
        model.restore(image, engine="keras").image,
        atol=1e-5,
    )


@pytest.mark.slow
def test_float16_file_of_a_preset(model, image, tmp_path):
    model.save_to_preset(tmp_path / "tiny", dtype="float16", litert=True)
    light = litert.litert_from_preset(tmp_path / "tiny")
    loaded = from_preset(tmp_path / "tiny")
    # The converter folds some weights before it rounds them.
    np.testing.assert_allclose(
        inference.restore(light, image).image,
        loaded.restore(image, engine="keras").image,
        atol=2e-3,
    )
    assert light.select == model.select and light.num_heads == 3


def test_choices_of_a_preset(preset, model, image):
    light = litert.litert_from_preset(preset)
    assert light.adaptive_weights == from_preset(preset).adaptive_weights
    assert from_preset(preset, load_weights=False).adaptive_weights is None
    for select, same in (("single", (2, 0)), ("adaptive", "adaptive")):
        result = inference.restore(light, image, select=select)
        expected = model.restore(image, select=same, engine="keras").image
        np.testing.assert_allclose(result.image, expected, atol=1e-5)


def test_a_preset_without_a_file_has_one_after_the_first_use(tmp_path, image):
    model = tiny_model()
    bias = model.network.get_layer("heads").weights[1]
    bias.assign(bias - 0.1)  # weights that no other test has exported
    model.save_to_preset(tmp_path / "tiny")
    assert litert.litert_from_preset(tmp_path / "tiny") is None
    from_preset(tmp_path / "tiny").restore(image, engine="litert")
    light = litert.litert_from_preset(tmp_path / "tiny")
    np.testing.assert_allclose(
        inference.restore(light, image).image, model.restore(image).image, atol=1e-5
    )


@pytest.mark.parametrize(
    "suffix, content",
    [
        (".tflite", b""),
        pytest.param(".tflite", b"cut short", marks=pytest.mark.slow),
        pytest.param(".json", b"{}", marks=pytest.mark.slow),
        pytest.param(".json", None, marks=pytest.mark.slow),
    ],
)
def test_a_damaged_file_in_the_cache_is_made_anew(suffix, content, tmp_path, image):
    model = tiny_model(tlc_train_size=24)  # which no other test has exported
    model.save_to_preset(tmp_path / "tiny")
    choose_engine(model, "litert")
    path = litert._cache_path(litert.fingerprint(model), 24).with_suffix(suffix)
    path.unlink() if content is None else path.write_bytes(content)
    litert._loaded.clear()  # a new process
    assert litert.litert_from_preset(tmp_path / "tiny") is None
    assert isinstance(choose_engine(model, "auto"), KerasEngine)
    assert isinstance(choose_engine(model, "litert"), LiteRTModel)
    assert isinstance(litert.litert_from_preset(tmp_path / "tiny"), LiteRTModel)


def test_folded_images_keep_their_weights(model, image):
    engine = KerasEngine.of(model)
    heads = engine.heads(image)
    folded = [engine.fold(weights) for weights in np.eye(3)]
    for function, head in zip(folded, heads):
        np.testing.assert_allclose(function(image)[0], head, atol=1e-6)
    np.testing.assert_allclose(folded[0](image)[0], heads[0], atol=1e-6)


def test_the_command_needs_neither_keras_nor_tensorflow(preset, image, tmp_path):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.rint(255 * image).astype("uint8")).save(photo)
    arguments = [
        "restore",
        "--no-guard",
        photo,
        "-o",
        tmp_path / "out",
        "--preset",
        preset,
    ]
    arguments = [str(argument) for argument in (*arguments, "--hypotheses")]
    code = f"""
import sys
from keras_mhdeblur import cli

assert cli.main({arguments}) == 0
heavy = {{"keras", "tensorflow", "jax", "torch", "h5py", "huggingface_hub"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    # One line for the photo, one at the end: no log of the runtime.
    assert len(result.stderr.splitlines()) == 2, result.stderr
    restored = np.asarray(Image.open(tmp_path / "out" / "photo.png"))
    model = from_preset(preset)
    np.testing.assert_allclose(
        restored, model.restore(photo, engine="keras").image, atol=1
    )


def test_without_the_runtime(preset, image, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(litert, "litert_installed", lambda: False)
    Image.new("RGB", (9, 8)).save(tmp_path / "photo.png")
    command = ["restore", str(tmp_path / "photo.png"), "-o", str(tmp_path / "out")]
    command += ["--preset", str(preset)]
    assert cli.main(command) == 0
    assert cli.main([*command, "--engine", "litert"]) == 2
    assert "needs `pip install ai-edge-litert`" in capfd.readouterr().err
    model = from_preset(preset)
    assert isinstance(choose_engine(model, "auto"), KerasEngine)


def test_wrong_engines(model, preset, image):
    with pytest.raises(ValueError, match="`engine` must be .* engine='onnx'"):
        model.restore(image, engine="onnx")
    light = litert.litert_from_preset(preset)
    with pytest.raises(ValueError, match="`engine` must be .* engine='keras'"):
        inference.restore(light, image, engine="keras")
    with pytest.raises(ValueError, match="fixed when .* tlc_train_size=64"):
        inference.restore(light, image, tlc_train_size=64)
