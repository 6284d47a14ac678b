import csv
import json
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from keras_mhdeblur import Deblurrer, cli, metrics, networks
from keras_mhdeblur.evaluation import PLAIN, Protocol, evaluate, get_protocol
from keras_mhdeblur.networks import NAFNet
from keras_mhdeblur.presets import hub

LEVELS = 1 / 255


def adding(*offsets, **options):
    """A model whose heads add these offsets, in grey levels, to the input."""
    network = NAFNet(4, (1,), 1, (1,), num_heads=len(offsets))
    kernel, bias = network.get_layer("heads").weights
    kernel.assign(0 * kernel)
    bias.assign(keras.ops.convert_to_tensor(np.repeat(offsets, 3) * LEVELS))
    return Deblurrer(network, **options)


class Linear(keras.Model):
    """Heads that are factors[k] * x + errors[k], with fixed error images or numbers."""

    def __init__(self, factors, errors):
        super().__init__()
        self.num_heads = len(factors)
        shape = (self.num_heads, 1, 1, 1)
        self.factors = np.reshape(factors, shape).astype("float32")
        self.errors = np.asarray(errors, "float32")
        if self.errors.ndim == 1:
            self.errors = self.errors.reshape(shape)
        self.built = True

    def call(self, images):
        return self.factors * images[:, None] + self.errors


class BrightnessOfCrop(keras.Model):
    """One head: the mean of what the network is shown, everywhere."""

    num_heads = 1

    def call(self, images):
        mean = keras.ops.mean(images, axis=(1, 2, 3), keepdims=True)
        return (mean + keras.ops.zeros_like(images))[:, None]


def psnr(levels):
    return 20 * np.log10(255 / levels)


def psnr_of_mse(mse):
    return -10 * np.log10(mse)


EXACT = Protocol(name="exact", round_to_8_bits=False, ssim=())


def test_known_scores():
    # Heads are off by 8 and -4 levels from labels that equal the input ...
    sharp = np.full((2, 16, 16, 3), 100 * LEVELS, "float32")
    blurry = sharp.copy()
    # ... and by 20 and 8 where the input is 12 levels too bright.
    blurry[1] += 12 * LEVELS
    scores = evaluate(adding(8, -4), [(blurry, sharp)])
    assert scores["images"] == 2
    expected = {
        "input": [100, psnr(12)],
        "selected": [psnr(2), psnr(14)],
        "mean": [psnr(2), psnr(14)],
        # Hypotheses: 8, 2, -4, and 20, 14, 8.
        "medoid": [psnr(2), psnr(14)],
        "single": [psnr(2), psnr(14)],
        "overall": [psnr(2), psnr(8)],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(scores[name]["psnr"], np.mean(values), atol=2e-3)
    assert scores["single"]["pair"] == [1, 0]
    assert scores["usage"] == [0, 0.5, 0.5]
    # No blur explains a change of what is flat: the guard keeps the photo.
    np.testing.assert_allclose(scores["restored"]["psnr"], scores["input"]["psnr"])
    assert scores["smallest_gain"] == 0
    assert 0.9 < scores["mean"]["ssim"] < scores["input"]["ssim"] < 1
    # Half of the head that is 8 levels too bright, half of the mean.
    model = adding(8, -4, select=(2 / 3, 1 / 6, 1 / 6))
    scores = evaluate(model, [(blurry, sharp)])
    expected = np.mean([psnr(5), psnr(17)])
    np.testing.assert_allclose(scores["selected"]["psnr"], expected, atol=2e-3)
    raw = evaluate(model, [(blurry, sharp)], protocol=Protocol(name="raw"))
    assert raw["restored"] == raw["selected"] == scores["selected"]
    np.testing.assert_allclose(raw["smallest_gain"], psnr(5) - 100, atol=2e-3)


def test_images_are_compared_as_8_bit_files():
    sharp = np.full((1, 16, 16, 3), 1.0, "float32")
    # 0.4 levels are rounded away, 30 levels above white are clipped.
    for offset in (-0.4, 30):
        assert evaluate(adding(offset), [(sharp, sharp)])["mean"]["psnr"] == 100


def test_heads_that_are_not_combined():
    sharp = np.full((1, 16, 16, 3), 0.2, "float32")
    scores = evaluate(adding(8, -4, combine_heads=False), [(sharp, sharp)])
    assert scores["usage"] == [0, 1]
    assert scores["single"]["pair"] == [1, 1]


def test_no_pairs():
    with pytest.raises(ValueError, match="Received: no pair"):
        evaluate(adding(0), [])


def test_pair_matrix_is_the_gram_matrix_of_the_errors():
    rng = np.random.default_rng(0)
    errors = rng.normal(0, 0.03, (3, 16, 16, 3))
    sharp = rng.uniform(0.3, 0.7, (4, 16, 16, 3)).astype("float32")
    gram = np.einsum("ahwc,bhwc->ab", errors, errors) / errors[0].size
    own = np.diag(gram)
    expected = psnr_of_mse((own[:, None] + 2 * gram + own[None]) / 4)
    for combine_heads in (True, False):
        model = Deblurrer(Linear([1, 1, 1], errors), combine_heads=combine_heads)
        scores = evaluate(model, [(sharp, sharp)], protocol=EXACT)
        np.testing.assert_allclose(scores["pair_psnr"], expected, atol=1e-3)
        names, rows, columns = ["0", "1", "2"], [0, 1, 2], [0, 1, 2]
        if combine_heads:
            names = ["0", "0+1", "1", "0+2", "1+2", "2"]
            rows, columns = np.tril_indices(3)
        assert scores["hypotheses"] == names
        listed = scores["psnr_per_hypothesis"]
        np.testing.assert_allclose(listed, expected[rows, columns], atol=1e-3)
        best = np.argmax(listed)
        assert scores["single"]["pair"] == [rows[best], columns[best]]
        assert scores["usage"] == [index == best for index in range(len(names))]
        mean = psnr_of_mse(gram.mean())
        np.testing.assert_allclose(scores["mean"]["psnr"], mean, atol=1e-3)


def test_psnr_of_winners():
    # Head 0 is off by 2 levels always; head 1 by 1, 3 and 5, and wins the first image.
    levels = np.array([98, 102, 104], "float32").reshape(3, 1, 1, 1)
    sharp = levels * np.full((3, 16, 16, 3), LEVELS, "float32")
    blurry = sharp + np.float32(2 * LEVELS)
    model = Deblurrer(Linear([1, 0], [0, 99 * LEVELS]), combine_heads=False)
    scores = evaluate(model, [(blurry, sharp)], protocol=EXACT)
    np.testing.assert_allclose(scores["usage"], [2 / 3, 1 / 3], atol=1e-4)
    np.testing.assert_allclose(scores["winner_psnr"], [psnr(2), psnr(1)], atol=2e-3)
    expected = [psnr(2), np.mean([psnr(1), psnr(3), psnr(5)])]
    np.testing.assert_allclose(scores["psnr_per_hypothesis"], expected, atol=2e-3)
    # A head that never wins has no such score.
    model = Deblurrer(Linear([1, 1], [0, 0.5]), combine_heads=False)
    assert evaluate(model, [(blurry, sharp)], protocol=EXACT)["winner_psnr"][1] is None


def test_official_scores(golden):
    # The heads of the golden file as a model; the mean of heads plays no part.
    file = golden("metrics").arrays
    sharp = file["gt"][None] / np.float32(255)
    heads = file["heads"] / np.float32(255)
    network = Linear([0] * len(heads), heads)
    model = Deblurrer(network, combine_heads=False)
    for border in (0, 4):
        protocol = Protocol(name="official", crop_border=border)
        scores = evaluate(model, [(sharp, sharp)], protocol=protocol)
        found = scores["overall"]
        for key, name in (("psnr", "psnr_mh"), ("ssim_3d", "ssim_mh")):
            best = file[f"{name}_crop{border}/best"]
            np.testing.assert_allclose(found[key], best, atol=2e-4)
        per_head = file[f"psnr_mh_crop{border}/per_head"]
        np.testing.assert_allclose(scores["psnr_per_hypothesis"], per_head, atol=2e-4)
        per_channel = file[f"ssim_mh_2d_crop{border}/per_head"]
        np.testing.assert_allclose(found["ssim"], per_channel.max(), atol=1e-4)


def test_best_ssim_need_not_be_of_the_head_with_the_best_psnr():
    rng = np.random.default_rng(0)
    sharp = rng.uniform(0.2, 0.8, (1, 32, 32, 3)).astype("float32")
    # A constant error leaves the structure, noise does not.
    noise = rng.normal(0, 0.05, (32, 32, 3))
    network = Linear([1, 1], [noise, np.full((32, 32, 3), 0.1)])
    scores = evaluate(Deblurrer(network, combine_heads=False), [(sharp, sharp)])
    assert scores["single"]["pair"] == [0, 0]
    assert scores["overall"]["psnr"] == scores["single"]["psnr"]
    for variant, key in (("per_channel", "ssim"), ("3d", "ssim_3d")):
        other = metrics.ssim(sharp, sharp + np.float32(0.1), variant=variant)
        assert scores["overall"][key] > scores["single"][key]
        np.testing.assert_allclose(scores["overall"][key], other[0], atol=1e-2)


@pytest.mark.parametrize("size", [8, 13, 16, 100])
def test_averaged_crops_of_a_pointwise_network_are_the_whole_image(size):
    image = np.random.default_rng(0).random((21, 40, 3)).astype("float32")
    model = Deblurrer(Linear([0.5, 2], [0.1, -0.2]))
    heads = Protocol(name="grid", crop_size=size, pad_multiple=8).head_function(model)
    np.testing.assert_allclose(
        heads(image), PLAIN.head_function(model)(image), atol=1e-6
    )


def test_crops_overlap_evenly_and_are_averaged():
    # Three crops of 4 along 10 pixels: they start at 0, 3 and 6.
    image = np.arange(10, dtype="float32").reshape(1, 10, 1) * np.ones((4, 1, 3), "f")
    model = Deblurrer(BrightnessOfCrop())
    heads = Protocol(name="grid", crop_size=4).head_function(model)(image)
    expected = [1.5] * 3 + [3] + [4.5] * 2 + [6] + [7.5] * 3
    np.testing.assert_allclose(heads[0, 0, :, 0], expected, atol=1e-5)


def test_reflected_padding_is_seen_by_the_network_and_cut_off():
    image = np.arange(6, dtype="float32").reshape(1, 6, 1) * np.ones((8, 1, 3), "f")
    protocol = Protocol(name="padded", pad_multiple=8)
    heads = protocol.head_function(Deblurrer(BrightnessOfCrop()))(image)
    assert heads.shape == (1, 8, 6, 3)
    # 0 1 2 3 4 5 and 4 3
    np.testing.assert_allclose(heads, 22 / 8, atol=1e-5)


def test_local_statistics_of_the_protocol():
    network = NAFNet(4, (1,), 1, (1,), num_heads=1)
    rng = np.random.default_rng(0)
    for weight in network.weights:
        weight.assign(rng.normal(0, 0.3, weight.shape))
    image = rng.random((32, 32, 3)).astype("float32")
    local, plain = Deblurrer(network, tlc_train_size=8), Deblurrer(network)
    for size, model in (("model", local), (8, plain), (None, local)):
        protocol = Protocol(name="test", tlc_train_size=size)
        same_as = plain if size is None else local
        expected = same_as.predict(image[None], verbose=0)[0]
        found = protocol.head_function(model)(image)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(local.predict(image[None]) - plain.predict(image[None])).max() > 1e-3
    scores = evaluate(local, [(image[None], image[None])], protocol=PLAIN)
    assert scores["protocol"]["tlc_train_size"] == 8


def test_protocols_by_name():
    model = adding(0)
    assert get_protocol("plain", model) is PLAIN
    assert get_protocol(EXACT, model) is EXACT
    gopro, hide = (get_protocol("paper", model, of) for of in ("gopro", "hide"))
    assert (gopro.tlc_train_size, hide.tlc_train_size) == (256, None)
    assert gopro.ssim == hide.ssim == ("3d",)
    for arguments, message in (
        (("papers", model), "Received: protocol='papers'"),
        (("paper", model), "one of gopro, hide. Received: benchmark=None"),
        (("plain", model, "RealBlur_J"), "realblur_j.* Received: benchmark='RealB"),
        (("paper", Deblurrer(Linear([1], [0])), "gopro"), "network of class Linear"),
    ):
        with pytest.raises(ValueError, match=message):
            get_protocol(*arguments)
    for wrong in (
        {"crop_size": 0},
        {"pad_multiple": 0},
        {"crop_border": -1},
        {"ssim": "3d"},
        {"ssim": ("4d",)},
        {"tlc_train_size": "preset"},
    ):
        (name,) = wrong
        with pytest.raises(ValueError, match=f"Received: {name}="):
            Protocol(name="wrong", **wrong)


def test_realblur_is_scored_aligned_with_its_labels():
    pytest.importorskip("cv2")
    model = adding(0)
    assert get_protocol("plain", model, "realblur_j").align
    assert not get_protocol("plain", model, "gopro").align
    y, x = np.mgrid[:64, :80] / 8
    sharp = 0.4 + 0.2 * np.stack([np.sin(x + y), np.cos(x * y / 9), np.sin(x)], -1)
    sharp = sharp.astype("float32")
    dark = 0.8 * np.roll(sharp, 1, axis=1)  # a pixel to the right, and darker
    plain = PLAIN.scores(dark, sharp)["psnr"]
    aligned = get_protocol("plain", model, "realblur_r").scores(dark, sharp)
    assert plain < 25 < 35 < aligned["psnr"] and aligned["ssim"] > 0.98


def test_the_papers_protocol_of_each_family(kind):
    """And none where the paper has no results of a network."""
    model = Deblurrer(kind.small())
    for benchmark in ("gopro", "hide"):
        if kind.cls in (networks.XYDeblur, networks.MAXIM):
            with pytest.raises(ValueError, match=f"class {kind.cls.__name__}"):
                get_protocol("paper", model, benchmark)
            continue
        local = kind.cls is networks.NAFNet and benchmark == "gopro"
        assert get_protocol("paper", model, benchmark) == Protocol(
            name="paper",
            tlc_train_size=256 if local else None,
            crop_size=256 if kind.cls is networks.HINet else None,
            ssim=("3d",),
        )


def test_rounding_and_border():
    sharp = np.full((1, 16, 16, 3), 0.5, "float32")
    blurry = sharp.copy()
    blurry[:, 0] = 0
    model = Deblurrer(Linear([1], [0.4 * LEVELS]))
    inside = {"name": "inside", "crop_border": 1, "ssim": ()}
    exact = evaluate(
        model,
        [(blurry, sharp)],
        protocol=Protocol(**inside, round_to_8_bits=False),
    )
    assert exact["input"] == {"psnr": 100}
    np.testing.assert_allclose(exact["mean"]["psnr"], psnr(0.4), atol=1e-2)
    # 127.5 and 127.9 levels are both 128.
    rounded = evaluate(model, [(blurry, sharp)], protocol=Protocol(**inside))
    assert rounded["mean"]["psnr"] == 100


def test_baseline_is_scored_as_by_itself():
    rng = np.random.default_rng(0)
    sharp = rng.uniform(0.3, 0.7, (3, 16, 16, 3)).astype("float32")
    model, baseline = adding(8, -4), adding(6)
    scores = evaluate(model, [(sharp, sharp)], baseline=baseline)
    alone = evaluate(baseline, [(sharp, sharp)])
    shared = {key: alone.pop(key) for key in ("images", "input")}
    assert scores["baseline"] == alone
    assert {key: scores[key] for key in shared} == shared


def test_wrong_pairs():
    image = np.zeros((1, 16, 16, 3), "float32")
    for blurry, sharp, message in (
        (image.astype("uint8"), image, "pairs of uint8 and float32"),
        (image, image[:, :12], r"images \(16, 16, 3\) and \(12, 16, 3\)"),
        (image[0], image[0], r"images \(16, 3\)"),
        (image + 255, image, r"\[0, 1\]"),
        (image, image * np.nan, "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(adding(0), [(blurry, sharp)])


def test_rows_of_the_command_average_to_its_scores(tmp_path, capfd):
    for name, heads in (("two", (8, -4)), ("one", (6,))):
        adding(*heads).save_to_preset(tmp_path / name)
    rng = np.random.default_rng(0)
    for folder in ("blur", "sharp"):
        (tmp_path / folder / "b").mkdir(parents=True)
        for name in ("b/1.png", "b-2.png", "a.png"):
            pixels = rng.integers(100, 140, (16, 16, 3), "uint8")
            Image.fromarray(pixels).save(tmp_path / folder / name)

    def command(*arguments):
        pairs = "--pairs", tmp_path / "blur", tmp_path / "sharp"
        options = "--preset", tmp_path / "two", "--baseline", tmp_path / "one"
        arguments = "evaluate", *options, *pairs, *arguments
        return cli.main([str(argument) for argument in arguments])

    json_path, csv_path = tmp_path / "scores.json", tmp_path / "scores.csv"
    assert command("--output", json_path) == 0
    assert command("--output", csv_path) == 0
    scores = json.loads(json_path.read_text())
    with open(csv_path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["a.png", "b/1.png", "b-2.png"]
    for prefix, of in (("", scores), ("baseline_", scores["baseline"])):
        for image in ("mean", "medoid", "single", "overall"):
            for key in ("psnr", "ssim", "ssim_3d", "ssim_luma"):
                values = [float(row[f"{prefix}{image}_{key}"]) for row in rows]
                np.testing.assert_allclose(np.mean(values), of[image][key], atol=1e-4)
        for name, value, share in zip(
            of["hypotheses"], of["psnr_per_hypothesis"], of["usage"]
        ):
            values = [float(row[f"{prefix}psnr_{name}"]) for row in rows]
            np.testing.assert_allclose(np.mean(values), value, atol=1e-4)
            winners = [row[f"{prefix}winner"] for row in rows]
            np.testing.assert_allclose(winners.count(name) / 3, share, atol=1e-4)
    table = capfd.readouterr().out
    line = next(line for line in table.splitlines() if "baseline one head" in line)
    assert f"{scores['baseline']['mean']['psnr']:.2f}" in line

    assert command("--protocol", "paper", "--benchmark", "hide") == 0
    assert "SSIM 3-D" in capfd.readouterr().out
    for arguments, message in (
        (("--protocol", "paper"), "gopro, hide"),
        (("--output", tmp_path / "scores.txt"), ".json or .csv"),
        (("--output", tmp_path / "no" / "scores.csv"), "no folder"),
        (("--baseline", "nothing"), "--baseline nothing: Unknown preset"),
    ):
        assert command(*arguments) == 2
        assert message in capfd.readouterr().err
    (tmp_path / "blur" / "a.png").write_bytes(b"")
    assert command() == 2
    error = capfd.readouterr().err
    assert "1 of 3 pairs cannot be used:" in error and "a.png" in error


def evaluated_photos(folder, preset):
    return cli.main(["evaluate", "--photos", str(folder), "--preset", str(preset)])


@pytest.mark.parametrize("data", ["benchmark_folder, benchmark_name: gopro",
                                  "paired_folder", "prepared_folder"])  # fmt: skip
def test_photos_need_a_recipe_that_blurs_them(data, tmp_path, capfd):
    folder = tmp_path / "preset"
    adding(8, -4).save_to_preset(folder, recipe=recipe_file(tmp_path, data))
    assert evaluated_photos(tmp_path, folder) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert f"Received: data.name='{data.split(',')[0]}'" in line


def test_photos_are_blurred_by_the_recipe_of_a_preset_on_the_hub(
    tmp_path, monkeypatch, capfd
):
    folder = tmp_path / "download"
    recipe = recipe_file(tmp_path, "synthesized_folder, max_path: 0")
    adding(8, -4).save_to_preset(folder, recipe=recipe)
    monkeypatch.setattr(hub, "download", {"hf://me/small": folder}.get)
    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (264, 264, 3), "uint8")
    Image.fromarray(pixels).save(tmp_path / "photos" / "a.png")
    assert evaluated_photos(tmp_path / "photos", "hf://me/small") == 0
    assert "hf://me/small, 4 images" in capfd.readouterr().out


def recipe_file(folder, data):
    path = folder / "of_the_training.yaml"
    path.write_text(
        f"{{seed: 0, network: {{name: NAFNet}}, data: {{name: {data}}}, steps: 2, "
        "steps_per_epoch: 2, optimizer: {name: AdamW}, learning_rate: {peak: 1e-3}}"
    )
    return path


def test_realblur_without_opencv_is_refused_before_the_work(
    tmp_path, monkeypatch, capfd
):
    adding(8, -4).save_to_preset(tmp_path)
    monkeypatch.setitem(sys.modules, "cv2", None)
    arguments = "--data", tmp_path, "--benchmark", "realblur_j", "--preset", tmp_path
    assert cli.main(["evaluate", *map(str, arguments)]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "pip install keras-mhdeblur[realblur]" in line
