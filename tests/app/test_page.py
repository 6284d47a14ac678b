"""The page in a real browser."""

import contextlib
import errno
import io
import os
import re
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from keras_mhdeblur.inference import restore

MANY_TILES = re.compile(r"Tile \d+ of \d{3}")


def drop(page, path):
    page.set_input_files("#mh-drop input[type=file]", path)


def another(page, path):
    """Chooses a photo in place of the one on the page."""
    with page.expect_file_chooser() as chooser:
        page.click("#mh-another")
    chooser.value.set_files(path)


def wait_for_status(page, text, place="#mh-status"):
    page.locator(place).get_by_text(text).wait_for()


def restore_on(page, path):
    drop(page, path)
    page.wait_for_selector("#mh-before img")
    page.click("#mh-restore")
    page.wait_for_selector("#mh-slider img")
    wait_for_status(page, "Restored in")


def picture(page, selector):
    """The pixels of a picture on the page."""
    source = page.locator(selector).get_attribute("src")
    return np.asarray(Image.open(io.BytesIO(page.request.get(source).body())))


def saved(page, button="#mh-save"):
    """Name and contents of the file that a button saves."""
    with page.expect_download() as download:
        page.click(button)
    return download.value.suggested_filename, download.value.path().read_bytes()


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def visitor_of(served):
    """The visitor who came last."""
    return list(served.studio.visitors.values())[-1]


def brush(page, start, stop):
    """Draws a stroke, of places as shares of width and height."""
    page.wait_for_selector("#mh-board-box canvas")
    box = page.locator("#mh-board-box canvas").bounding_box()
    for index, (x, y) in enumerate((start, stop)):
        place = box["x"] + x * box["width"], box["y"] + y * box["height"]
        page.mouse.move(*place, steps=4)
        if index == 0:
            page.mouse.down()
    page.mouse.up()
    wait_for_status(page, "Now click the answer", "#mh-hint")


@contextlib.contextmanager
def new_board(page):
    """Waits for another picture to brush on."""
    number = "document.querySelector('.mh-board').dataset.number"
    before = page.evaluate(number)
    yield
    page.wait_for_function(f"{number} !== '{before}'")


def test_the_saved_photo_is_that_of_restore(served, new_page, model, photo):
    page = new_page(served.url)
    restore_on(page, photo)
    expected = restore(model, photo)
    name, data = saved(page)
    assert name == "street_restored.png"
    np.testing.assert_array_equal(pixels(data), expected.image)
    assert Image.open(io.BytesIO(data)).getexif()[0x010F] == "Maker of cameras"
    np.testing.assert_array_equal(picture(page, "#mh-slider img.fixed"), expected.image)
    np.testing.assert_array_equal(
        picture(page, "#mh-slider img:not(.fixed)"), np.asarray(Image.open(photo))
    )


def test_hypotheses_uncertainty_and_formats(served, new_page, model, photo):
    page = new_page(served.url)
    restore_on(page, photo)
    expected = restore(model, photo)
    names = page.locator("#mh-gallery .caption-label").all_inner_texts()
    assert names == ["Restored", *expected.names]
    page.locator("#mh-gallery button").nth(3).click()
    wait_for_status(page, "Right: answer 1", "#mh-legend")
    hypothesis = expected.select((1, 1)).image
    np.testing.assert_array_equal(picture(page, "#mh-slider img.fixed"), hypothesis)
    page.click("#mh-overlay input")
    wait_for_status(page, "levels or more", "#mh-legend")
    shown = picture(page, "#mh-slider img.fixed")
    assert (shown != hypothesis).mean() > 0.5
    # What is saved has no colours.
    np.testing.assert_array_equal(pixels(saved(page)[1]), hypothesis)
    page.locator("#mh-format").get_by_text("TIFF").click()
    name, data = saved(page)
    assert name == "street_restored.tif"
    np.testing.assert_array_equal(pixels(data), hypothesis)


def test_brushed_regions_are_what_compose_makes(served, new_page, photo):
    page = new_page(served.url)
    restore_on(page, photo)
    page.get_by_role("tab", name="Retouch").click()
    page.locator("#mh-base input").click()
    with new_board(page):
        page.get_by_role("option", name="0+1", exact=True).click()
    brush(page, (0.4, 0.5), (0.6, 0.5))
    page.locator("#mh-answers button").nth(10).click()
    wait_for_status(page, "1 region has its own answer", "#mh-hint")
    one = pixels(saved(page)[1])
    brush(page, (0.1, 0.1), (0.2, 0.1))
    page.locator("#mh-answers button").nth(1).click()
    wait_for_status(page, "2 regions have answers of their own", "#mh-hint")
    two = pixels(saved(page)[1])

    retouched = visitor_of(served).retouched
    labels = retouched.labels
    assert (labels[64, 77:115] == 9).all() and (labels[13, 20:38] == 0).all()
    assert labels[120, 180] == 1 and (labels == 9).mean() < 0.2
    np.testing.assert_array_equal(two, retouched.result.compose(labels, 8).image)

    with new_board(page):
        page.click("#mh-undo")
    wait_for_status(page, "1 region has its own answer", "#mh-hint")
    labels = np.where(labels == 0, 1, labels)
    np.testing.assert_array_equal(one, retouched.result.compose(labels, 8).image)
    np.testing.assert_array_equal(pixels(saved(page)[1]), one)


def test_an_answer_without_a_region_asks_for_one(served, new_page, photo):
    page = new_page(served.url, width=390)
    restore_on(page, photo)
    page.get_by_role("tab", name="Retouch").click()
    page.locator("#mh-answers button").nth(2).click()
    wait_for_status(page, "Brush over a region first", "#mh-hint")
    brush(page, (0.4, 0.5), (0.6, 0.5))
    page.locator("#mh-board-box").get_by_text("Clear").click()
    wait_for_status(page, "Brush over a region, a face", "#mh-hint")
    assert visitor_of(served).mask is None
    # Nothing is wider than the telephone.
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_cancel_stops_the_work_and_the_next_photo_is_restored(
    served, new_page, model, photo, large_photo
):
    page = new_page(served.url)
    drop(page, large_photo)
    page.wait_for_selector("#mh-before img")
    page.locator("#mh-quality").get_by_text("Tiles").click()
    page.click("#mh-restore")
    wait_for_status(page, MANY_TILES)
    begin = time.monotonic()
    page.click("#mh-cancel")
    wait_for_status(page, "Cancelled.")
    assert visitor_of(served).retouched is None
    assert time.monotonic() - begin < 20
    page.locator("#mh-quality").get_by_text("Fast").click()
    another(page, photo)
    page.locator("#mh-about").get_by_text("street.jpg").wait_for()
    page.click("#mh-restore")
    page.wait_for_selector("#mh-slider img")
    expected = restore(model, photo).image
    np.testing.assert_array_equal(pixels(saved(page)[1]), expected)


def test_a_closed_tab_stops_its_work_and_the_next_page_has_its_turn(
    served, new_page, photo, large_photo
):
    busy = new_page(served.url)
    drop(busy, large_photo)
    busy.wait_for_selector("#mh-before img")
    busy.locator("#mh-quality").get_by_text("Tiles").click()
    busy.click("#mh-restore")
    wait_for_status(busy, MANY_TILES)
    page = new_page(served.url)
    drop(page, photo)
    page.wait_for_selector("#mh-before img")
    page.click("#mh-restore")
    wait_for_status(page, "1 photo is before yours")
    visitors = list(served.studio.visitors.values())
    busy.close()
    wait_for_status(page, "Restored in")
    assert visitors[-2].retouched is None and not visitors[-2].folder.exists()
    assert visitors[-2] not in served.studio.visitors.values()


@pytest.mark.parametrize("kind", ["text", "pixels"])
def test_a_wrong_file_is_a_sentence_and_the_next_photo_works(
    served, new_page, photo, text_file, tmp_path, kind
):
    page = new_page(served.url)
    if kind == "text":
        drop(page, text_file)
        wait_for_status(page, "letter.jpg: it is not an image of a kind that can be")
    else:
        Image.new("RGB", (2000, 1001)).save(tmp_path / "wall.png")
        drop(page, tmp_path / "wall.png")
        wait_for_status(
            page, "wall.png: it has 2.01 million pixels; this page takes up"
        )
    assert page.locator("#mh-restore").is_disabled()
    restore_on(page, photo)
    if kind == "text":
        another(page, text_file)
        wait_for_status(page, "letter.jpg: it is not an image")
        # The photo before is still there.
        assert pixels(saved(page)[1]).shape == (128, 192, 3)


def test_a_full_disk_is_a_sentence_and_the_next_photo_works(
    served, new_page, photo, monkeypatch
):
    async def write(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def save(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    said = "The disk of this machine is full: make room and try again."
    page = new_page(served.url)
    with monkeypatch.context() as patch:
        patch.setattr("starlette.datastructures.UploadFile.write", write)
        drop(page, photo)
        page.locator(".toast-body").get_by_text(said).wait_for()
    restore_on(page, photo)
    with monkeypatch.context() as patch:
        patch.setattr("keras_mhdeblur.app.retouching.write_image", save)
        page.click("#mh-save")
        wait_for_status(page, said)
    assert pixels(saved(page)[1]).shape == (128, 192, 3)


def test_what_a_format_cannot_hold_is_a_sentence(served, new_page, photo, tmp_path):
    image = Image.open(photo)
    image.putalpha(200)
    image.save(tmp_path / "clear.png")
    page = new_page(served.url)
    restore_on(page, tmp_path / "clear.png")
    page.locator("#mh-format").get_by_text("JPEG").click()
    page.click("#mh-save")
    wait_for_status(page, "JPEG files cannot hold this image")
    page.locator("#mh-format").get_by_text("PNG").click()
    assert pixels(saved(page)[1]).shape == (128, 192, 4)


def test_many_photos(served, new_page, model, photo, text_file, tmp_path):
    Image.open(photo).crop((0, 0, 100, 80)).save(tmp_path / "other.png")
    page = new_page(served.url)
    page.get_by_role("tab", name="Many photos").click()
    paths = [photo, text_file, tmp_path / "other.png"]
    page.set_input_files("#mh-files input[type=file]", paths)
    wait_for_status(page, "3 photos are ready", "#mh-many-status")
    page.click("#mh-start")
    wait_for_status(page, "2 of 3 photos restored. 1 failed", "#mh-many-status")
    rows = page.locator("#mh-results tbody tr").all()
    cells = [row.locator("td").all_inner_texts() for row in rows]
    assert [row[0] for row in cells] == ["street.jpg", "letter.jpg", "other.png"]
    assert [row[1] for row in cells] == ["192 × 128", "", "100 × 80"]
    assert [row[4] for row in cells] == [
        "restored",
        "It is not an image of a kind that can be read.",
        "restored",
    ]
    name, data = saved(page, "#mh-zip")
    assert name == "restored.zip"
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert file.namelist() == ["street_restored.png", "other_restored.png"]
        image = pixels(file.read("street_restored.png"))
    np.testing.assert_array_equal(image, restore(model, photo, hypotheses=False).image)


def test_the_limits_are_on_the_page(served, new_page):
    page = new_page(served.url)
    text = page.locator("#mh-limits").inner_text()
    assert "up to 2 megapixels and 200 MB" in text
    assert (
        page.locator("#mh-header").get_by_text("Photos stay on this computer").count()
    )
    assert page.locator("footer").is_hidden() or not page.locator("footer").count()
