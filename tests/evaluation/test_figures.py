import json
import sys

import numpy as np
import pytest
from PIL import Image

from keras_mhdeblur import Deblurrer, cli
from keras_mhdeblur.networks import NAFNet, XYDeblur

pytest.importorskip("matplotlib")

from keras_mhdeblur.evaluation import figures  # noqa: E402


def run(*arguments):
    return cli.main(["figures", *(str(argument) for argument in arguments)])


def scores(num_heads, combine_heads, **changes):
    """What `evaluate` gives, with PSNRs that tell where they are drawn."""
    hypotheses = num_heads * (num_heads + 1) // 2 if combine_heads else num_heads
    per_hypothesis = [30 + 0.01 * index for index in range(hypotheses)]
    return {
        "images": 2,
        "input": {"psnr": 28.0},
        "num_heads": num_heads,
        "combine_heads": combine_heads,
        "psnr_per_hypothesis": per_hypothesis,
        "mean": {"psnr": 30.0},
        "single": {"psnr": per_hypothesis[-1]},
        "overall": {"psnr": 31 + 0.1 * num_heads},
        "hypotheses": [f"h{index}" for index in range(hypotheses)],
        "usage": [1 / hypotheses] * hypotheses,
        "pair_psnr": (30 + np.eye(num_heads)).tolist(),
    } | changes


def is_drawn(path):
    """Whether a picture shows something."""
    return np.asarray(Image.open(path).convert("L")).std() > 5


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A preset whose three heads are random convolutions of the input."""
    network = NAFNet(4, (1,), 1, (1,), num_heads=3)
    rng = np.random.default_rng(0)
    for weight in network.weights:
        weight.assign(rng.normal(0, 0.3, weight.shape))
    folder = tmp_path_factory.mktemp("presets") / "tiny"
    Deblurrer(network).save_to_preset(folder)
    return folder


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(1)
    paths = []
    for name, shape in (("wide", (40, 60, 3)), ("tall", (60, 40, 3))):
        paths.append(tmp_path / f"{name}.png")
        Image.fromarray(rng.integers(0, 256, shape, "uint8")).save(paths[-1])
    return paths


def test_disagreement_is_the_mean_over_all_pairs():
    hypotheses = np.random.default_rng(0).random((5, 4, 6, 3))
    sums = [
        np.abs(hypotheses[a] - hypotheses[b]).mean(axis=-1)
        for a in range(5)
        for b in range(a)
    ]
    found = figures.disagreement(hypotheses)
    np.testing.assert_allclose(found, np.mean(sums, axis=0), atol=1e-12)
    with pytest.raises(ValueError, match="hypotheses.shape="):
        figures.disagreement(hypotheses[:1])


def test_correlation():
    values = np.random.default_rng(0).random((4, 6))
    np.testing.assert_allclose(figures.correlation(values, 3 - 2 * values), -1)
    other = np.random.default_rng(1).random((4, 6))
    expected = np.corrcoef(values.ravel(), other.ravel())[0, 1]
    np.testing.assert_allclose(figures.correlation(values, other), expected)
    assert np.isnan(figures.correlation(values, np.ones((4, 6))))


def test_heatmap_shows_each_map_on_its_own_scale():
    blurry = [np.full((20, 30, 3), 0.5)] * 2
    ramp = np.linspace(0, 1, 600).reshape(20, 30)
    figure = figures.heatmap(blurry, [ramp, 0.1 * ramp], blurry, ["a", "b" * 90])
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 6
    first, second = (axes.images[0].get_array() for axes in panels[-2:])
    np.testing.assert_allclose(first, second)
    assert panels[-2].get_xlabel() == "1 = 254 of 255 levels"
    assert panels[-1].get_xlabel() == "1 = 25.4 of 255 levels"
    assert len(panels[1].get_title()) < 40


def test_differences_are_row_less_column():
    heads = np.zeros((3, 20, 30, 3))
    heads[1] = 10 / 255
    figure = figures.differences(heads)
    panels = {
        (index // 3, index % 3): axes.images[0]
        for index, axes in enumerate(figure.axes[:9])
    }
    for i, j in ((0, 1), (2, 1)):
        np.testing.assert_allclose(panels[i, j].get_array(), -10, atol=1e-9)
        np.testing.assert_allclose(panels[j, i].get_array(), 10, atol=1e-9)
    np.testing.assert_allclose(panels[0, 2].get_array(), 0)
    np.testing.assert_allclose(panels[0, 1].get_clim(), (-10, 10))


def test_ablation_draws_lines_and_every_hypothesis():
    results = [scores(3, False), scores(2, True), scores(1, True), scores(2, False)]
    figure = figures.ablation(results)
    for axes, counts, hypotheses in zip(figure.axes, ([1, 2, 3], [1, 2]), (6, 4)):
        triangles, overall, single, baseline = axes.lines
        assert len(triangles.get_xdata()) == hypotheses
        assert list(overall.get_xdata()) == list(single.get_xdata()) == counts
        np.testing.assert_allclose(overall.get_ydata(), 31 + 0.1 * np.array(counts))
        assert list(baseline.get_ydata()) == [30, 30]
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["heads alone", "heads combined"]


def test_pairs_writes_the_numbers():
    figure = figures.pairs(scores(3, True))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == np.where(np.eye(3), "31.00", "30.00").ravel().tolist()


def test_usage_draws_the_share_of_every_hypothesis():
    results = [scores(2, True, usage=[0.5, 0.2, 0.3]), scores(1, True)]
    one, other = figures.usage(results).axes
    assert [bar.get_height() for bar in one.patches] == pytest.approx([50, 20, 30])
    assert [label.get_text() for label in one.get_xticklabels()] == ["h0", "h1", "h2"]
    assert list(one.lines[0].get_ydata()) == pytest.approx([100 / 3] * 2)
    assert [one.get_title(), other.get_title()] == ["2 heads, combined", "1 head"]
    assert len([a for a in figures.usage(results * 3).axes if a.get_visible()]) == 6


def covered(count):
    """As of `evaluation.coverage`: image 0 is nearest to the first half."""
    nearest = np.zeros((count, 10))
    nearest[0, :5] = nearest[-1, 5:] = 1
    return {
        "images": count,
        "curve": [20.0 + n for n in range(count)],
        "bound": [21.0 + 2 * n for n in range(count)],
        "nearest": nearest.tolist(),
    }


def test_coverage_draws_curves_and_moments():
    figure = figures.coverage({"photo": covered(1), "heads": covered(3)})
    curves, moments, _ = figure.axes
    bound, photo, heads = curves.lines
    assert list(bound.get_ydata()) == [21, 23, 25]
    assert list(photo.get_ydata()) == [20] and list(heads.get_ydata()) == [20, 21, 22]
    assert moments.get_title() == "heads"
    shares = moments.images[0].get_array()
    assert shares.shape == (3, 10)
    assert list(shares[0]) == [100] * 5 + [0] * 5 and shares[1].max() == 0


@pytest.mark.slow
def test_commands_write_pictures(preset, photos, tmp_path, capfd):
    picture = tmp_path / "heatmap.png"
    common = "--preset", preset, "--output"
    assert run("heatmap", *photos, "--sharp", *photos, *common, picture) == 0
    assert is_drawn(picture)
    # Nothing differs between blurry and sharp, so that nothing can be correlated.
    assert capfd.readouterr().out.count("constant") == 2
    picture = tmp_path / "differences.png"
    assert run("differences", photos[0], *common, picture) == 0
    assert is_drawn(picture)
    files = []
    for index, result in enumerate((scores(1, True), scores(2, False))):
        files.append(tmp_path / f"{index}.json")
        files[-1].write_text(json.dumps(result))
    (tmp_path / "coverage.json").write_text(json.dumps({"heads": covered(2)}))
    for command, paths in (
        ("ablation", files),
        ("pairs", files[1:]),
        ("usage", files),
        ("coverage", [tmp_path / "coverage.json"]),
    ):
        picture = tmp_path / f"{command}.png"
        assert run(command, *paths, "--output", picture) == 0
        assert is_drawn(picture)


def test_wrong_arguments(preset, photos, tmp_path, capfd):
    one, other = (tmp_path / f"{name}.json" for name in ("one", "other"))
    one.write_text(json.dumps(scores(2, True)))
    other.write_text(json.dumps(scores(3, True, input={"psnr": 20.0})))
    preset = "--preset", preset
    for arguments, message in (
        (("heatmap", photos[0], "--sharp", *photos, *preset), "2 photos for 1"),
        (("heatmap", photos[0], "--sharp", photos[1], *preset), "40x60"),
        (("heatmap", tmp_path / "no.png", *preset), "no.png"),
        (("pairs", one, "--output", tmp_path / "no" / "a.png"), "no folder"),
        (("pairs", one, "--output", tmp_path / "a.doc"), "suffix"),
        (("pairs", photos[0]), "not a JSON file"),
        (("pairs", tmp_path / "no.json"), "No such file"),
        (("coverage", one), "images has no images"),
        (("ablation", one, one), "both 2 heads combined"),
        (("ablation", one, other), "different images"),
    ):
        if "--output" not in arguments:
            arguments = *arguments, "--output", tmp_path / "a.png"
        assert run(*arguments) == 2
        assert message in capfd.readouterr().err
    assert not (tmp_path / "a.png").exists()
    other.write_text("{}")
    assert run("pairs", other, "--output", tmp_path / "a.png") == 2
    assert "has no pair_psnr" in capfd.readouterr().err


def test_without_matplotlib(tmp_path, capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "keras_mhdeblur.evaluation.figures")
    monkeypatch.delattr("keras_mhdeblur.evaluation.figures")
    assert run("pairs", tmp_path / "no.json") == 2
    assert 'pip install "keras-mhdeblur[figures]"' in capfd.readouterr().err


def test_a_model_with_one_head_has_no_figure(photos, tmp_path, capfd):
    folder = tmp_path / "one"
    Deblurrer(NAFNet(4, (1,), 1, (1,), num_heads=1)).save_to_preset(folder)
    for command in ("heatmap", "differences"):
        picture = tmp_path / "a.png"
        options = "--preset", folder, "--output", picture
        assert run(command, photos[0], *options) == 2
        assert "one head" in capfd.readouterr().err


def test_heads_that_are_no_hypotheses_have_no_differences(photos, tmp_path, capfd):
    folder = tmp_path / "axes"
    Deblurrer(XYDeblur(4, 1, num_heads=2)).save_to_preset(folder)
    options = "--preset", folder, "--output", tmp_path / "a.png"
    assert run("differences", photos[0], *options) == 2
    assert "no hypotheses" in capfd.readouterr().err
