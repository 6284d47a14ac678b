"""Presets of several networks, whose weights are in other presets."""

import json
import shutil

import numpy as np
import pytest

from keras_mhdeblur import Deblurrer, cli, from_preset, inference, list_presets
from keras_mhdeblur.engines.litert_ensemble import LiteRTEnsemble
from keras_mhdeblur.inference.engine_choice import choose_engine
from keras_mhdeblur.networks import Ensemble
from keras_mhdeblur.presets import PresetError, litert, set_calibration, update_metadata
from keras_mhdeblur.presets.files import checksum
from keras_mhdeblur.presets.publishing import plan_upload


@pytest.fixture(scope="module")
def zoo(make_members, tmp_path_factory):
    """A folder with the presets "fine" and "staged", and "pair" of the two."""
    folder = tmp_path_factory.mktemp("zoo")
    fine, staged = make_members()
    Deblurrer(fine, tlc_train_size=12).save_to_preset(folder / "fine", dtype="float16")
    first = Deblurrer(staged.with_stages(1))
    Deblurrer(staged).save_to_preset(
        folder / "staged", dtype="float16", stages={1: first}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_mhdeblur.presets.zoo.zoo_folder", lambda: folder)
        network = Ensemble([from_preset("fine").network, from_preset("staged").network])
        model = Deblurrer(network, best_pair=(4, 0), tlc_train_size=12, name="both")
        first = Deblurrer(network.with_stages(1), select=(3, 1), tlc_train_size=12)
        model.save_to_preset(
            folder / "pair", members=["fine", "staged"], stages={1: first}
        )
    return folder


@pytest.fixture
def own(zoo, tmp_path, monkeypatch):
    """A copy that the test may change."""
    folder = shutil.copytree(zoo, tmp_path / "zoo")
    monkeypatch.setattr("keras_mhdeblur.presets.zoo.zoo_folder", lambda: folder)
    return folder


@pytest.fixture
def pair(zoo, monkeypatch):
    monkeypatch.setattr("keras_mhdeblur.presets.zoo.zoo_folder", lambda: zoo)
    return from_preset("pair")


@pytest.fixture
def image(images):
    return images(1, 50, 70)


def expected_heads(image, stage=0):
    fine, staged = from_preset("fine"), from_preset("staged")
    heads = fine._inference_network()(image), staged.network(image)[stage]
    return np.concatenate(heads, axis=1)


def change_config(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["files"]["config.json"] = {
        "sha256": checksum(folder / "config.json"),
        "bytes": (folder / "config.json").stat().st_size,
    }
    (folder / "metadata.json").write_text(json.dumps(metadata))


def test_networks_of_the_members_and_own_choices(zoo, pair, image):
    files = sorted(path.name for path in (zoo / "pair").iterdir())
    assert files == ["README.md", "config.json", "metadata.json"]
    config = json.loads((zoo / "pair" / "config.json").read_text())
    metadata = [
        json.loads((zoo / name / "metadata.json").read_text())
        for name in ("fine", "staged", "pair")
    ]
    assert "network" not in config["config"]
    assert config["ensemble"] == [
        {"preset": name, "fingerprint": entries["fingerprint"]}
        for name, entries in zip(("fine", "staged"), metadata)
    ]
    assert metadata[2]["fingerprint"] == litert.fingerprint(pair)
    assert (pair.select, pair.best_pair, pair.tlc_train_size) == ("mean", (4, 0), 12)
    assert (pair.name, pair.num_heads, pair.num_hypotheses) == ("both", 5, 15)
    heads = np.array(pair._inference_network()(image))
    np.testing.assert_array_equal(heads, expected_heads(image))


def test_fewer_stages(pair, image):
    first = from_preset("pair", stages=1)
    assert (first.select, first.best_pair) == ((3, 1), None)
    heads = np.array(first._inference_network()(image))
    np.testing.assert_allclose(heads, expected_heads(image, stage=1), atol=1e-6)
    assert from_preset("pair", stages=2).best_pair == (4, 0)
    for stages in (3, "many"):
        with pytest.raises(PresetError, match=f"Received: overrides=.*{stages}"):
            from_preset("pair", stages=stages)


def test_a_member_that_ends_early(own, image):
    network = from_preset("pair", stages=1).network
    Deblurrer(network, tlc_train_size=12).save_to_preset(
        own / "early", members=["fine", "staged"]
    )
    entry = json.loads((own / "early" / "config.json").read_text())["ensemble"][1]
    metadata = json.loads((own / "staged" / "metadata.json").read_text())
    assert entry["stages"] == 1
    assert entry["fingerprint"] == metadata["stages"]["1"]["fingerprint"]
    model = from_preset("early")
    assert model.network.members[1].stages == 1
    heads = np.array(model._inference_network()(image))
    np.testing.assert_allclose(heads, expected_heads(image, stage=1), atol=1e-6)
    with pytest.raises(PresetError, match="1 stages at most"):
        from_preset("early", stages=2)


def test_overrides(pair):
    assert from_preset("pair", select="medoid").select == "medoid"
    alone = from_preset("pair", combine_heads=False, tlc_train_size=None)
    assert (alone.num_hypotheses, alone.best_pair) == (5, None)
    assert alone.tlc_train_size is None
    with pytest.raises(PresetError, match="of fine and staged, has no option 'width'"):
        from_preset("pair", width=8)
    random = from_preset("pair", load_weights=False, stages=1)
    assert (random.num_heads, random.best_pair, random.select) == (5, None, "mean")
    assert litert.fingerprint(random) != litert.fingerprint(from_preset("pair"))
    assert random.network.members[1].stages == 1


def test_a_member_with_other_weights(own, make_members):
    fine, _ = make_members(seed=1)
    Deblurrer(fine, tlc_train_size=12).save_to_preset(own / "fine", dtype="float16")
    for load in (from_preset, litert.litert_from_preset):
        with pytest.raises(PresetError, match="'pair': its member 'fine' has other"):
            load("pair")


def test_a_member_with_other_choices_of_its_own(own):
    set_calibration(own / "fine", None)
    change_config(own / "fine", lambda c: c["config"].update(select="medoid"))
    assert from_preset("pair").select == "mean"


def test_a_missing_or_damaged_member(own):
    weights = own / "staged" / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(PresetError, match="'staged': model.weights.h5 is truncated"):
        from_preset("pair")
    shutil.rmtree(own / "staged")
    for load in (from_preset, litert.litert_from_preset):
        with pytest.raises(PresetError, match="'pair': its member.*preset 'staged'"):
            load("pair")


@pytest.mark.parametrize(
    "entries", [None, {}, [], [{"preset": "fine", "fingerprint": "0"}], ["fine"] * 2]
)
def test_a_damaged_list_of_members(own, entries):
    change_config(own / "pair", lambda config: config.update(ensemble=entries))
    for load in (from_preset, litert.litert_from_preset):
        with pytest.raises(PresetError, match="names no members.* Received: ensemble="):
            load("pair")


def test_a_preset_that_names_itself(own):
    entry = {"preset": "pair", "fingerprint": "0"}
    change_config(own / "pair", lambda config: config.update(ensemble=[entry] * 2))
    for load in (from_preset, litert.litert_from_preset):
        with pytest.raises(PresetError, match="one of several networks"):
            load("pair")


@pytest.mark.parametrize("wrong", [{"best_pair": [9, 0]}, {"combine_heads": "axes"}])
def test_wrong_choices(own, wrong):
    change_config(own / "pair", lambda config: config["config"].update(wrong))
    with pytest.raises(PresetError, match="'pair': config.json makes no model"):
        from_preset("pair")


def test_members_of_a_model_that_has_others(pair, tmp_path):
    def save(model, members, **options):
        model.save_to_preset(tmp_path / "new", members=members, **options)

    for members, message in (
        (["staged", "fine"], "'staged' has not the weights"),
        (["fine"], "two names"),
        ("fine", "two names"),
        (["fine", "staged", "fine"], "as many networks"),
        (["fine", "missing"], "Unknown preset 'missing'"),
        (["fine", "pair"], "one of several networks"),
    ):
        with pytest.raises(PresetError, match=message):
            save(pair, members)
    for options in ({"litert": True}, {"dtype": "float16"}):
        with pytest.raises(PresetError, match="of the presets of `members`"):
            save(pair, ["fine", "staged"], **options)
    with pytest.raises(PresetError, match="model with 1 networks"):
        save(from_preset("fine"), ["fine", "staged"])
    bias = pair.network.members[1].head_layer.weights[1]
    bias.assign(bias + 0.1)
    with pytest.raises(PresetError, match="'staged' has not the weights"):
        save(pair, ["fine", "staged"])
    assert not (tmp_path / "new").exists()


def test_all_weights_in_one_preset(pair, image, tmp_path):
    stages = {1: from_preset("pair", stages=1)}
    pair.save_to_preset(tmp_path / "whole", dtype="float16", stages=stages)
    loaded = from_preset(tmp_path / "whole")
    assert litert.fingerprint(loaded) == litert.fingerprint(pair)
    np.testing.assert_array_equal(loaded(image), pair(image))
    first = from_preset(tmp_path / "whole", stages=1)
    assert (first.select, first.network.members[1].stages) == ((3, 1), 1)
    assert from_preset(tmp_path / "whole", stages=2).best_pair == (4, 0)
    with pytest.raises(PresetError, match="no option 'stages'"):
        from_preset(tmp_path / "whole", stages=3)


def test_texts_and_lists(own, capsys):
    update_metadata(own / "pair", description="Two as one.", scores={})
    set_calibration(own / "pair", None)
    set_calibration(own / "pair", None, stages=1)
    assert from_preset("pair").best_pair == (4, 0)
    about = list_presets()["pair"]
    assert (about["members"], about["architecture"]) == (["fine", "staged"], "Ensemble")
    weights = [str(own / name / "model.weights.h5") for name in ("fine", "staged")]
    assert about["weights"] == weights
    assert list_presets()["fine"]["members"] is None
    assert about["parameters"] == from_preset("pair").count_params()
    with pytest.raises(PresetError, match="'members' is written by the library"):
        update_metadata(own / "pair", members=["fine"])
    assert "Networks of: `fine` and `staged`" in (own / "pair/README.md").read_text()
    cli.main(["presets"])
    shown = capsys.readouterr().out
    assert "pair\n    Two as one.\n    Ensemble, networks of fine and staged" in shown


def test_upload(own, tmp_path, monkeypatch):
    upload = plan_upload("hf://me/pair", "pair")
    assert sorted(upload.files) == [
        *("README.md", "config.json", "example.jpg", "metadata.json")
    ]
    assert "has the networks of `fine` and `staged`" in upload.card
    folder = own / "pair"
    monkeypatch.setattr("keras_mhdeblur.presets.zoo.zoo_folder", lambda: tmp_path / "x")
    with pytest.raises(PresetError, match="'fine' is a folder of this computer"):
        plan_upload("hf://me/pair", folder)


def test_litert_files_of_the_members(own, image):
    first = from_preset("pair", stages=1)
    assert litert.litert_from_preset("pair", stages=1) is None
    assert litert.litert_of(first, make=False) is None
    made = litert.litert_of(first)
    assert isinstance(made, LiteRTEnsemble)
    # Both files stay loaded.
    again = choose_engine(first, "auto")
    assert all(a is b for a, b in zip(again.members, made.members, strict=True))

    light = litert.litert_from_preset("pair", stages=1)
    assert isinstance(light, LiteRTEnsemble)
    assert light.fingerprint == litert.fingerprint(first)
    assert (light.select, light.best_pair, light.num_heads) == ((3, 1), None, 5)
    assert (light.multiple, light.tile_size, light.context) == (12, 48, -16)
    parts = [member.bytes_per_pixel for member in light.members]
    assert light.bytes_per_pixel == sum(parts)
    heads = expected_heads(image, stage=1)[0]
    np.testing.assert_allclose(light.heads(image[0]), heads, atol=1e-4)

    # A tile's windows end with it, in both engines.
    for options in ({}, {"select": "mean"}, {"tile": 24, "hypotheses": False}):
        found = inference.restore(light, image[0], guard=False, **options)
        expected = first.restore(image[0], guard=False, engine="keras", **options)
        np.testing.assert_allclose(found.image, expected.image, atol=1e-4)
    # That of both stages is not there, and neither are global statistics.
    assert litert.litert_from_preset("pair") is None
    assert litert.litert_from_preset("pair", None, stages=1) is None
    metadata = json.loads((own / "pair" / "metadata.json").read_text())
    metadata["stages"]["1"]["best_pair"] = [9, 0]
    (own / "pair" / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(PresetError, match="'pair': config.json makes no model"):
        litert.litert_from_preset("pair", stages=1)
