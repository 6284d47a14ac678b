"""The page in a real browser."""

import contextlib
import io

import numpy as np
import pytest
from PIL import Image

from keras_mhdeblur.inference import restore

pytestmark = pytest.mark.slow


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def visitor_of(served):
    """The visitor who came last."""
    return list(served.studio.visitors.values())[-1]


def brush(app, start, stop):
    """Draws a stroke, of places as shares of width and height."""
    app.page.wait_for_selector("#mh-board-box canvas")
    box = app.page.locator("#mh-board-box canvas").bounding_box()
    for index, (x, y) in enumerate((start, stop)):
        place = box["x"] + x * box["width"], box["y"] + y * box["height"]
        app.page.mouse.move(*place, steps=4)
        if index == 0:
            app.page.mouse.down()
    app.page.mouse.up()
    app.says("Now click the answer", "#mh-hint")


@contextlib.contextmanager
def new_board(app):
    """Waits for another picture to brush on."""
    number = "document.querySelector('.mh-board').dataset.number"
    before = app.page.evaluate(number)
    yield
    app.page.wait_for_function(f"{number} !== '{before}'")


def test_the_saved_photo_is_that_of_restore(served, new_page, model, photo):
    app = new_page(served.url)
    app.restore(photo)
    expected = restore(model, photo)
    name, data = app.saved()
    assert name == "street_restored.png"
    np.testing.assert_array_equal(pixels(data), expected.image)
    assert Image.open(io.BytesIO(data)).getexif()[0x010F] == "Maker of cameras"
    np.testing.assert_array_equal(app.picture("#mh-slider img.fixed"), expected.image)
    np.testing.assert_array_equal(
        app.picture("#mh-slider img:not(.fixed)"), np.asarray(Image.open(photo))
    )


def test_hypotheses_uncertainty_and_formats(served, new_page, model, photo):
    app = new_page(served.url)
    app.restore(photo)
    expected = restore(model, photo)
    names = app.page.locator("#mh-gallery .caption-label").all_inner_texts()
    assert names == ["Restored", *expected.names]
    app.page.locator("#mh-gallery button").nth(3).click()
    app.says("Right: answer 1", "#mh-legend")
    hypothesis = expected.select((1, 1)).image
    np.testing.assert_array_equal(app.picture("#mh-slider img.fixed"), hypothesis)
    app.page.click("#mh-overlay input")
    app.says("levels or more", "#mh-legend")
    shown = app.picture("#mh-slider img.fixed")
    assert (shown != hypothesis).mean() > 0.5
    # What is saved has no colours.
    np.testing.assert_array_equal(app.saved_pixels(), hypothesis)
    app.page.locator("#mh-format").get_by_text("TIFF").click()
    name, data = app.saved()
    assert name == "street_restored.tif"
    np.testing.assert_array_equal(pixels(data), hypothesis)


def test_brushed_regions_are_what_compose_makes(served, new_page, photo):
    app = new_page(served.url)
    app.restore(photo)
    app.page.get_by_role("tab", name="Retouch").click()
    app.page.locator("#mh-base input").click()
    with new_board(app):
        app.page.get_by_role("option", name="0+1", exact=True).click()
    brush(app, (0.4, 0.5), (0.6, 0.5))
    app.page.locator("#mh-answers button").nth(10).click()
    app.says("1 region has its own answer", "#mh-hint")
    one = app.saved_pixels()
    brush(app, (0.1, 0.1), (0.2, 0.1))
    app.page.locator("#mh-answers button").nth(1).click()
    app.says("2 regions have answers of their own", "#mh-hint")
    two = app.saved_pixels()

    retouched = visitor_of(served).retouched
    labels = retouched.labels
    assert (labels[64, 77:115] == 9).all() and (labels[13, 20:38] == 0).all()
    assert labels[120, 180] == 1 and (labels == 9).mean() < 0.2
    np.testing.assert_array_equal(two, retouched.result.compose(labels, 8).image)

    with new_board(app):
        app.page.click("#mh-undo")
    app.says("1 region has its own answer", "#mh-hint")
    labels = np.where(labels == 0, 1, labels)
    np.testing.assert_array_equal(one, retouched.result.compose(labels, 8).image)
    np.testing.assert_array_equal(app.saved_pixels(), one)


def test_an_answer_without_a_region_asks_for_one(served, new_page, photo):
    app = new_page(served.url, width=390)
    app.restore(photo)
    app.page.get_by_role("tab", name="Retouch").click()
    app.page.locator("#mh-answers button").nth(2).click()
    app.says("Brush over a region first", "#mh-hint")
    brush(app, (0.4, 0.5), (0.6, 0.5))
    app.page.locator("#mh-board-box").get_by_text("Clear").click()
    app.says("Brush over a region, a face", "#mh-hint")
    assert visitor_of(served).mask is None
    # Nothing is wider than the telephone.
    assert app.page.evaluate("document.documentElement.scrollWidth") == 390


def test_the_limits_are_on_the_page(served, new_page):
    app = new_page(served.url)
    text = app.page.locator("#mh-limits").inner_text()
    assert "up to 2 megapixels and 200 MB" in text
    assert (
        app.page.locator("#mh-header")
        .get_by_text("Photos stay on this computer")
        .count()
    )
    assert (
        app.page.locator("footer").is_hidden() or not app.page.locator("footer").count()
    )
