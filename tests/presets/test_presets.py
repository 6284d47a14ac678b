import hashlib
import json
import shutil
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from keras_mhdeblur import Deblurrer, from_preset
from keras_mhdeblur.data import read_image
from keras_mhdeblur.presets import (
    PresetError,
    list_presets,
    update_metadata,
    upload_preset,
)
from keras_mhdeblur.presets.files import WEIGHTS, checksum, read_metadata, verify
from keras_mhdeblur.presets.saving import save_to_preset
from keras_mhdeblur.presets.zoo import PLAIN_NAMES, builtin_presets

PAIRS = Path(__file__).parents[2] / "examples/pairs"


def assert_same_weights(model, other):
    for weight, expected in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def rewrite(preset, file, content=None):
    """Makes a file's checksum fit, after writing content if there is any."""
    if content is not None:
        (preset / file).write_text(content)
    metadata = json.loads((preset / "metadata.json").read_text())
    metadata["files"][file] = {
        "sha256": checksum(preset / file),
        "bytes": (preset / file).stat().st_size,
    }
    (preset / "metadata.json").write_text(json.dumps(metadata))


def change_weights(preset, change):
    """Applies change(h5 file), with a checksum that fits."""
    with h5py.File(preset / WEIGHTS, "r+") as file:
        change(file)
    rewrite(preset, WEIGHTS)


def weight_paths(file):
    paths = []
    file.visititems(
        lambda path, item: (
            paths.append(path) if isinstance(item, h5py.Dataset) else None
        )
    )
    return paths


def test_round_trip(preset, make_model, tmp_path):
    images = np.random.default_rng(0).random((1, 9, 7, 3), "float32")
    model = from_preset(preset)
    np.testing.assert_array_equal(model(images), make_model()(images))
    assert not model.compiled
    # The same folder again, over itself.
    save_to_preset(model, preset, license="MIT")
    assert_same_weights(from_preset(str(preset)), model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small"]


def test_options_round_trip(make_model, tmp_path):
    model = make_model(
        select=(1, 0), best_pair=(2, 1), combine_heads=True, tlc_train_size=16
    )
    model.save_to_preset(tmp_path / "p")
    loaded = from_preset(tmp_path / "p")
    assert (loaded.select, loaded.best_pair) == ((1, 0), (2, 1))
    assert loaded.tlc_train_size == 16
    images = np.random.default_rng(0).random((1, 64, 48, 3), "float32")
    np.testing.assert_array_equal(loaded(images), model(images))


def test_float16_storage(make_model, tmp_path):
    model = make_model()
    model.save_to_preset(tmp_path / "p", dtype="float16")
    with h5py.File(tmp_path / "p" / WEIGHTS) as file:
        assert {file[path].dtype.name for path in weight_paths(file)} == {"float16"}
    for loaded in (
        from_preset(tmp_path / "p"),
        keras.saving.load_model(tmp_path / "p"),
    ):
        for weight, exact in zip(loaded.weights, model.get_weights(), strict=True):
            assert weight.dtype == "float32"
            rounded = exact.astype("float16").astype("float32")
            np.testing.assert_array_equal(weight, rounded)


def test_keras_opens_it(preset, make_model):
    (preset / "recipe.yaml").write_text("epochs: 1")
    loaded = keras.saving.load_model(preset)
    assert_same_weights(loaded, make_model())


def test_training_leaves_no_trace(make_model, preset, tmp_path):
    model = make_model()
    model.compile(optimizer=keras.optimizers.Adam(0.0), run_eagerly=True)
    images = np.zeros((2, 8, 8, 3), "float32")
    model.fit(images, images, verbose=0)
    model.save_to_preset(tmp_path / "trained")
    for file in (WEIGHTS, "config.json"):
        assert checksum(tmp_path / "trained" / file) == checksum(preset / file)


def test_mixed_precision_is_not_saved(make_model, preset, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        make_model().save_to_preset(tmp_path / "mixed")
    finally:
        keras.config.set_dtype_policy("float32")
    for file in (WEIGHTS, "config.json"):
        assert checksum(tmp_path / "mixed" / file) == checksum(preset / file)


def test_metadata_and_texts(make_model, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("epochs: 1\n")
    folder = tmp_path / "p"
    save_to_preset(
        make_model(),
        folder,
        license="Apache-2.0",
        training_data="GoPro",
        scores={"gopro": {"psnr_mean": 31.5}},
        cost={"seconds_per_megapixel": 1.5},
        recipe=recipe,
        results={"images": []},
        hardware="2 cores",
    )
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["keras_version"] == keras.__version__
    assert metadata["scores"]["gopro"]["psnr_mean"] == 31.5
    assert metadata["cost"] == {"seconds_per_megapixel": 1.5}
    assert metadata["hardware"] == "2 cores"
    assert metadata["parameters"] == make_model().count_params()
    assert set(metadata["files"]) == {path.name for path in folder.iterdir()} - {
        "metadata.json"
    }
    for file, entry in metadata["files"].items():
        assert entry["sha256"] == checksum(folder / file)
        assert entry["bytes"] == (folder / file).stat().st_size
    card = (folder / "README.md").read_text()
    assert "license: apache-2.0" in card and "GoPro" in card and "31.5" in card
    assert (folder / "recipe.yaml").read_text() == "epochs: 1\n"


def test_edited_card(preset):
    (preset / "README.md").write_text("a better card")
    from_preset(preset)
    with pytest.raises(PresetError, match="README.md is .*update_metadata"):
        upload_preset("hf://me/p", preset)
    update_metadata(preset, scores={"gopro": 1.0})
    metadata = json.loads((preset / "metadata.json").read_text())
    assert metadata["scores"] == {"gopro": 1.0}
    assert metadata["files"]["README.md"]["bytes"] == len("a better card")


def test_update_metadata_hides_no_damage(preset):
    (preset / "config.json").write_text("{}")
    with pytest.raises(PresetError, match="config.json is truncated"):
        update_metadata(preset, scores={})


def test_overrides(preset, make_model):
    model = from_preset(preset, select="medoid", best_pair=(1, 1), combine_heads=False)
    assert (model.select, model.best_pair) == ("medoid", (1, 1))
    assert model.num_hypotheses == 3
    assert_same_weights(model, make_model())
    assert from_preset(preset, tlc_train_size=16).tlc_train_size == 16
    wider = from_preset(preset, load_weights=False, num_heads=5, width=6)
    assert (wider.num_heads, wider.network.width) == (5, 6)


def test_choices_may_be_arrays(make_model, tmp_path):
    weights, coefficients = np.linspace(0, 1 / 3, 6), np.ones((3, 10), "float32")
    model = make_model(best_pair=np.array([2, 1]), adaptive_weights=coefficients)
    model.select = weights
    model.save_to_preset(tmp_path / "p")
    loaded = from_preset(tmp_path / "p")
    assert loaded.best_pair == (2, 1)
    np.testing.assert_allclose(loaded.select, weights)
    np.testing.assert_array_equal(loaded.adaptive_weights, coefficients)


def test_choices_do_not_outlive_the_combination(make_model, tmp_path):
    weights = (0.5, 0.1, 0.1, 0.1, 0.1, 0.1)
    make_model(select=weights, best_pair=(2, 1)).save_to_preset(tmp_path / "p")
    kept = from_preset(tmp_path / "p", combine_heads=True)
    assert (kept.select, kept.best_pair) == (weights, (2, 1))
    model = from_preset(tmp_path / "p", combine_heads=False)
    assert (model.select, model.best_pair) == ("mean", None)
    with pytest.raises(PresetError, match="load_weights=False"):
        from_preset(tmp_path / "p", num_heads=2)


def test_best_heads_do_not_outlive_their_weights(make_model, tmp_path):
    make_model(select=(2, 1), best_pair=(2, 2)).save_to_preset(tmp_path / "p")
    model = from_preset(tmp_path / "p", load_weights=False, num_heads=1)
    assert (model.select, model.best_pair) == ("mean", None)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_head": 5}, "no option 'num_head'.*Did you mean 'num_heads'"),
        ({"network": None}, "no option 'network'"),
        ({"num_heads": 5}, "multi_head_output/conv.*num_heads.*load_weights=False"),
        ({"middle_blocks": 2}, "middle_blocks.*load_weights=False"),
        ({"middle_blocks": 0}, "load_weights=False"),
        ({"width": "wide"}, "makes no model: .*str.*width"),
    ],
)
def test_wrong_override(preset, overrides, message):
    with pytest.raises(PresetError, match=message):
        from_preset(preset, **overrides)


@pytest.mark.parametrize("file", ["config.json", WEIGHTS])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damaged_file(preset, file, damage):
    content = bytearray((preset / file).read_bytes())
    if damage == "flip":
        content[len(content) // 3] ^= 4
        (preset / file).write_bytes(content)
    elif damage == "truncate":
        (preset / file).write_bytes(content[:-10])
    else:
        (preset / file).unlink()
    expected = {"flip": "damaged", "truncate": "truncated", "remove": "missing"}
    with pytest.raises(PresetError, match=f"small.*{file} is {expected[damage]}"):
        from_preset(preset)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": {"../x": {}}}'])
def test_damaged_metadata(preset, content):
    (preset / "metadata.json").write_text(content)
    with pytest.raises(PresetError, match="metadata.json"):
        from_preset(preset)


def test_keras_folder_without_checksums(make_model, tmp_path):
    make_model().save(tmp_path / "plain", zipped=False)
    with pytest.raises(PresetError, match="no checksums.*load_model"):
        from_preset(tmp_path / "plain")


def test_missing_weight(preset):
    def change(file):
        del file[weight_paths(file)[-1]]

    change_weights(preset, change)
    with pytest.raises(PresetError, match="model.weights.h5 lacks layers/.* of layer"):
        from_preset(preset)


def test_surplus_weight(preset):
    change_weights(preset, lambda file: file.create_dataset("more/0", data=[1.0]))
    with pytest.raises(PresetError, match="has more/0, which is no weight"):
        from_preset(preset)


def test_misshapen_weight(preset):
    def change(file):
        path = next(path for path in weight_paths(file) if file[path].ndim == 4)
        values = file[path][:]
        del file[path]
        # As many numbers: nothing but the shape tells.
        file.create_dataset(path, data=values.transpose(3, 2, 1, 0))

    change_weights(preset, change)
    with pytest.raises(PresetError, match="has shape .*, not .*, at layers/"):
        from_preset(preset)


def test_unknown_name():
    with pytest.raises(PresetError, match="Did you mean 'nafnet_mh_c_width32'"):
        from_preset("nafnet_mhc_width32")
    with pytest.raises(PresetError, match="Unknown preset 'runs/mine'"):
        from_preset("runs/mine")


def test_other_class_is_refused(preset):
    config = keras.saving.serialize_keras_object(keras.Sequential())
    rewrite(preset, "config.json", json.dumps(config))
    with pytest.raises(PresetError, match="not the configuration of a Deblurrer"):
        from_preset(preset)


@pytest.mark.parametrize("payload", ["function", "bytecode"])
def test_code_in_a_config_is_refused(preset, tmp_path, payload):
    if payload == "function":
        network = {
            "module": "builtins",
            "class_name": "eval",
            "config": {"source": f"open({str(tmp_path / 'ran')!r}, 'w')"},
            "registered_name": "eval",
        }
    else:
        network = keras.saving.serialize_keras_object(keras.layers.Lambda(lambda x: x))
    config = json.loads((preset / "config.json").read_text())
    config["config"]["network"] = network
    rewrite(preset, "config.json", json.dumps(config))
    with pytest.raises(PresetError, match="makes no model"):
        from_preset(preset, load_weights=False)
    assert not (tmp_path / "ran").exists()


def test_foreign_folder_is_not_overwritten(make_model, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(PresetError, match="photo.jpg"):
        save_to_preset(make_model(), tmp_path)
    assert (tmp_path / "photo.jpg").read_bytes() == b"mine"
    with pytest.raises(PresetError, match="A preset is a folder"):
        save_to_preset(make_model(), tmp_path / "photo.jpg")


def test_failed_save_leaves_the_old_preset(preset, make_model):
    before = {path.name: checksum(path) for path in preset.iterdir()}
    model = make_model(seed=1)
    model.weights[3].assign(keras.ops.full_like(model.weights[3], 1e5))
    with pytest.raises(PresetError, match="not finite in float16"):
        save_to_preset(model, preset, dtype="float16")
    with pytest.raises(PresetError, match="numbers, strings"):
        save_to_preset(model, preset, scores={"psnr": float("nan")})
    assert before == {path.name: checksum(path) for path in preset.iterdir()}
    assert [path.name for path in preset.parent.iterdir()] == ["small"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "int8"}, "Received: dtype='int8'"),
        ({"licence": "MIT"}, "Did you mean 'license'"),
        ({"source": {"file": "a.pth"}}, 'must have a "file" and a "sha256"'),
        ({"litert": 2}, "or a number of `stages`"),
        ({"files": {}}, "'files' is written by the library"),
        ({"select": "single"}, "'select' is written by the library"),
    ],
)
def test_wrong_save_argument(make_model, tmp_path, arguments, message):
    with pytest.raises(PresetError, match=message):
        save_to_preset(make_model(), tmp_path / "p", **arguments)
    with pytest.raises(PresetError, match="must be a Deblurrer"):
        save_to_preset(make_model().network, tmp_path / "p")


@pytest.mark.parametrize(
    ("width", "parameters"),
    [
        pytest.param(32, 17_114_508, marks=pytest.mark.slow),
        (64, 67_894_028),
    ],
)
def test_published_widths(width, parameters):
    name = f"nafnet_mh_c_width{width}"
    entry = list_presets()[name]
    assert entry["parameters"] == parameters
    assert entry["weights"] is None
    assert entry["license"] == "Apache-2.0"
    model = from_preset(name, load_weights=False)
    assert model.count_params() == parameters
    assert (model.num_heads, model.num_hypotheses) == (4, 10)
    with pytest.raises(PresetError, match="no weights yet.*mhdeblur convert"):
        from_preset(name)


def test_builtin_presets_are_intact():
    for name, folder in builtin_presets().items():
        metadata = read_metadata(folder, name)
        verify(folder, metadata["files"], metadata, name)  # the card, too


@pytest.mark.slow
def test_builtin_presets_load():
    for name, entry in list_presets().items():
        if entry["weights"] is not None:
            assert from_preset(name).count_params() == entry["parameters"]


@pytest.mark.slow
@pytest.mark.parametrize("plain_name", PLAIN_NAMES)
def test_plain_name_is_a_preset_that_sharpens(plain_name):
    about = list_presets()[PLAIN_NAMES[plain_name]]
    assert about["plain_name"] == plain_name
    model = from_preset(plain_name)
    assert model.count_params() == about["parameters"]
    blurry, sharp = (
        read_image(PAIRS / kind / "gopro_stall.png").pixels
        for kind in ("blur", "sharp")
    )
    restored = model.restore(blurry, hypotheses=False, engine="keras").image
    assert np.mean((restored - sharp) ** 2) < np.mean((blurry - sharp) ** 2)


def test_list_reads_damaged_metadata_as_error(preset, monkeypatch):
    monkeypatch.setattr("keras_mhdeblur.presets.zoo.zoo_folder", lambda: preset.parent)
    assert list_presets()["small"]["weights"] == str(preset / WEIGHTS)
    shutil.copyfile(preset / WEIGHTS, preset / "metadata.json")
    with pytest.raises(PresetError, match="'small': metadata.json is damaged"):
        list_presets()


def test_presets_with_former_names_of_arguments(make_model, tmp_path):
    """As written before `tlc_train_size` was named so."""
    model = make_model()
    model = Deblurrer(model.network.with_local_statistics(64), tlc_train_size=64)
    folder = tmp_path / "former"
    model.save_to_preset(folder)
    config = (folder / "config.json").read_text("utf-8")
    assert config.count('"tlc_train_size": 64') == 2
    config = config.replace('"tlc_train_size"', '"local_statistics"')
    (folder / "config.json").write_text(config, "utf-8")
    metadata = json.loads((folder / "metadata.json").read_text("utf-8"))
    metadata["files"]["config.json"] = {
        "sha256": hashlib.sha256(config.encode()).hexdigest(),
        "bytes": len(config.encode()),
    }
    (folder / "metadata.json").write_text(json.dumps(metadata), "utf-8")
    loaded = from_preset(folder)
    assert loaded.tlc_train_size == loaded.network.get_config()["tlc_train_size"] == 64
    image = np.random.default_rng(0).random((1, 20, 30, 3), "float32")
    np.testing.assert_array_equal(loaded(image), model(image))
    changed = from_preset(folder, tlc_train_size=None)
    assert changed.tlc_train_size is None
