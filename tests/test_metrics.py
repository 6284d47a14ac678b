import keras
import numpy as np
import pytest

from keras_mhdeblur import metrics


def images(file, heads="heads"):
    return file.arrays["gt"] / np.float32(255), file.arrays[heads] / np.float32(255)


@pytest.mark.parametrize("border", [0, 4])
@pytest.mark.parametrize("luma", [False, True])
def test_psnr(golden, border, luma):
    file = golden("metrics")
    truth, heads = images(file)
    if luma:  # the official function takes BGR
        truth, heads = truth[..., ::-1], heads[..., ::-1]
    values = metrics.psnr(truth, heads, border, luma)
    name = f"psnr_mh_{'y_' if luma else ''}crop{border}"
    np.testing.assert_allclose(values, file.arrays[f"{name}/per_head"], atol=2e-4)


@pytest.mark.parametrize("border", [0, 4])
@pytest.mark.parametrize(
    "variant, name",
    [("3d", "ssim_mh"), ("per_channel", "ssim_mh_2d"), ("luma", "ssim_mh_y")],
)
def test_ssim(golden, border, variant, name):
    file = golden("metrics")
    truth, heads = images(file)
    if variant == "luma":
        truth, heads = truth[..., ::-1], heads[..., ::-1]
    values = metrics.ssim(truth, heads, border, variant)
    expected = file.arrays[f"{name}_crop{border}/per_head"]
    np.testing.assert_allclose(values, expected, atol=1e-5)
    if (variant, border) == ("3d", 0):
        exact = file.arrays["ssim_mh_crop0/per_head_float64_separable"]
        np.testing.assert_allclose(values, exact, atol=1e-5)


def test_float_images_and_values_over_one(golden):
    file = golden("metrics")
    truth, heads = file.arrays["gt_float"], images(file)[1]
    values = metrics.psnr(truth, heads)
    np.testing.assert_allclose(values, file.arrays["psnr_mh_float/per_head"], atol=2e-4)
    ssim = metrics.ssim(truth, heads, variant="3d")
    np.testing.assert_allclose(ssim, file.arrays["ssim_mh_float/per_head"], atol=1e-5)
    # MPRNet clamps predictions; NAFNet's code would take the peak for 255 instead.
    heads = heads.copy()
    heads[0, 0, 0, 0] = 1.01
    clamped = metrics.psnr(truth, heads)
    expected = file.arrays["torchMultiHeadPSNR/per_head"]
    np.testing.assert_allclose(clamped, expected, atol=2e-4)


def test_identical_images(golden):
    truth, _ = images(golden("metrics"))
    assert np.isinf(metrics.psnr(truth, truth))
    np.testing.assert_allclose(metrics.ssim(truth, truth), 1, atol=1e-6)


def hypotheses_with(mse):
    """Labels of zeros and hypotheses (B, K) of the given mean squared errors."""
    stack = np.sqrt(np.array(mse, "float32"))[..., None, None, None]
    stack = np.broadcast_to(stack, (*stack.shape[:2], 4, 4, 3))
    return np.zeros((len(mse), 4, 4, 3), "float32"), stack


def test_overall_single_and_per_head():
    label, stack = hypotheses_with([[1e-2, 1e-3], [1e-1, 1e-2], [1e-3, 1e-2]])
    expected = {
        metrics.PSNROverall(): (30 + 20 + 30) / 3,
        metrics.PSNRSingleHead(): (30 + 20 + 20) / 3,
        metrics.PSNRPerHypothesis(): {"psnr_0": 20, "psnr_1": 70 / 3},
        metrics.HypothesisUsage(): {"usage_0": 1 / 3, "usage_1": 2 / 3},
    }
    for metric, value in expected.items():
        metric.update_state(label[:2], stack[:2])
        metric.update_state(label[2:], stack[2:])
        result = metric.result()
        if not isinstance(value, dict):
            result, value = {"": result}, {"": value}
        assert result.keys() == value.keys()
        for key in value:
            np.testing.assert_allclose(result[key], value[key], rtol=1e-5)


def test_mean_is_the_psnr_of_the_mean_image():
    label, stack = hypotheses_with([[0.04, 0.16]])
    metric = metrics.PSNRMean()
    metric.update_state(label, stack)
    np.testing.assert_allclose(metric.result(), -10 * np.log10(0.09), rtol=1e-5)


def test_exact_prediction_counts_100_db():
    label, stack = hypotheses_with([[0.0], [1e-2]])
    metric = metrics.PSNROverall()
    metric.update_state(label, stack)
    np.testing.assert_allclose(metric.result(), 60, rtol=1e-5)


def test_sample_weight():
    label, stack = hypotheses_with([[1e-2], [1e-3]])
    metric = metrics.PSNROverall()
    metric.update_state(label, stack, sample_weight=[3, 1])
    np.testing.assert_allclose(metric.result(), 22.5, rtol=1e-5)
    metric.reset_state()
    metric.update_state(label, stack)
    np.testing.assert_allclose(metric.result(), 25, rtol=1e-5)


def all_results(label, stack, *weights):
    results = {}
    for name in "Overall", "SingleHead", "Mean", "PerHypothesis":
        metric = getattr(metrics, f"PSNR{name}")()
        metric.update_state(label, stack, *weights)
        value = metric.result()
        results |= value if isinstance(value, dict) else {name: value}
    usage = metrics.HypothesisUsage()
    usage.update_state(label, stack, *weights)
    return results | usage.result()


def test_targets_count_as_labels_of_their_own():
    rng = np.random.default_rng(0)
    labels = rng.random((3, 2, 6, 5, 3), "float32")
    stack = rng.random((3, 4, 6, 5, 3), "float32")
    weights = np.array([[1, 0], [2, 3], [0.5, 1]], "float32")
    repeated = [np.concatenate(labels), np.repeat(stack, 2, axis=0)]
    for given, flat in (
        ((), ()),
        ((weights,), (weights.ravel(),)),
        ((weights[:, 1],), (np.repeat(weights[:, 1], 2),)),
    ):
        found = all_results(labels, stack, *given)
        expected = all_results(*repeated, *flat)
        assert found.keys() == expected.keys()
        for key in expected:
            np.testing.assert_allclose(found[key], expected[key], rtol=1e-5)


def test_overall_of_targets_is_the_coverage():
    targets, stack = hypotheses_with([[1e-2, 1e-4]])
    # The second target is the image of the first hypothesis.
    labels = np.stack([targets, stack[:, 0]], axis=1)
    metric = metrics.PSNROverall()
    metric.update_state(labels, stack)
    np.testing.assert_allclose(metric.result(), (40 + 100) / 2, rtol=1e-5)
    usage = metrics.HypothesisUsage()
    usage.update_state(labels, stack)
    assert usage.result() == {"usage_0": 0.5, "usage_1": 0.5}


def test_config_round_trip():
    metric = metrics.HypothesisUsage(num_hypotheses=3, dtype="float64")
    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(metric)
    )
    assert copy.num_hypotheses == 3 and copy.name == "hypothesis_usage"
    assert copy.dtype == "float64"


@pytest.mark.parametrize("former, name", [
    ("HeadUsage", "HypothesisUsage"), ("PSNRPerHead", "PSNRPerHypothesis"),
])  # fmt: skip
def test_metrics_saved_under_their_former_names(former, name):
    cls = getattr(metrics, name)
    saved = keras.saving.serialize_keras_object(cls(num_hypotheses=3))
    assert saved["registered_name"] == f"keras_mhdeblur>{name}"
    saved |= {"class_name": former, "registered_name": f"keras_mhdeblur>{former}"}
    found = keras.saving.deserialize_keras_object(saved)
    assert type(found) is cls and found.num_hypotheses == 3


@pytest.mark.parametrize(
    "name, result",
    [
        ("PSNROverall", 0),
        ("PSNRSingleHead", 0),
        ("PSNRMean", 0),
        ("PSNRPerHypothesis", {}),
        ("HypothesisUsage", {}),
    ],
)
def test_result_before_the_first_update(name, result):
    metric = getattr(metrics, name)()
    assert metric.result() == result
    metric.reset_state()
    assert metric.result() == result


def test_unknown_ssim():
    with pytest.raises(ValueError, match="Received: variant='4d'"):
        metrics.ssim(np.zeros((16, 16, 3)), np.zeros((16, 16, 3)), variant="4d")


@pytest.mark.parametrize("function, border", [(metrics.psnr, 8), (metrics.ssim, 3)])
def test_nothing_is_left_inside_the_border(function, border):
    image = np.zeros((24, 16, 3))
    received = rf"Received: y_pred.shape=\(24, 16, 3\), crop_border={border}$"
    with pytest.raises(ValueError, match=received):
        function(image, image, border)
    function(image, image, border - 1)


def test_luma_needs_colours():
    gray = np.zeros((16, 16, 1))
    for wrong in {"luma": True}, {"variant": "luma"}:
        function = metrics.psnr if "luma" in wrong else metrics.ssim
        with pytest.raises(ValueError, match=r"Received: images.shape=\(16, 16, 1\)"):
            function(gray, gray, **wrong)


def test_masked_scores_are_those_of_the_visible_part():
    rng = np.random.default_rng(0)
    sharp = rng.random((30, 40, 3)).astype("float32")
    image = np.clip(sharp + 0.1 * rng.standard_normal(sharp.shape), 0, 1)
    spoilt, mask = image.copy(), np.zeros((30, 40), bool)
    mask[:, :25] = True
    spoilt[:, 25:] = 0
    expected = metrics.psnr(sharp[:, :25], image[:, :25])
    np.testing.assert_allclose(metrics.psnr(sharp, spoilt, mask=mask), expected, 1e-5)
    # Similarity is seen in windows, so only those wholly inside are the same.
    mask[:, 20:] = False
    found = metrics.ssim(sharp, spoilt, mask=mask)
    np.testing.assert_allclose(found, metrics.ssim(sharp[:, :25], image[:, :25]), 1e-5)
    everywhere = np.ones((30, 40), bool)
    for variant in ("per_channel", "3d", "luma"):
        np.testing.assert_allclose(
            metrics.ssim(sharp, image, 2, variant, everywhere),
            metrics.ssim(sharp, image, 2, variant),
            rtol=1e-5,
        )
