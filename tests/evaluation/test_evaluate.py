import keras
import numpy as np
import pytest

from keras_mhdeblur import Deblurrer, metrics, networks
from keras_mhdeblur.evaluation import PLAIN, Protocol, evaluate, get_protocol
from keras_mhdeblur.networks import NAFNet

LEVELS = 1 / 255


def adding(*offsets, **options):
    """A model whose heads add these offsets, in grey levels, to the input."""
    network = NAFNet(4, (0,), 1, (0,), num_heads=len(offsets))
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
    network = NAFNet(4, (0,), 1, (0,), num_heads=1)
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


@pytest.mark.quick_kinds("NAFNet", "HINet", "Restormer", "XYDeblur")
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


@pytest.mark.slow
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
