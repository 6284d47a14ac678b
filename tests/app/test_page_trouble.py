"""The page in a real browser: what goes wrong, what stops, and many photos."""

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

pytestmark = pytest.mark.slow

MANY_TILES = re.compile(r"Tile \d+ of \d{3}")


def visitors(served):
    return list(served.studio.visitors.values())


def test_cancel_stops_the_work_and_the_next_photo_is_restored(
    served, new_page, model, photo, large_photo
):
    app = new_page(served.url)
    app.start(large_photo, "Tiles")
    app.says(MANY_TILES)
    begin = time.monotonic()
    app.page.click("#mh-cancel")
    app.says("Cancelled.")
    assert visitors(served)[-1].retouched is None
    assert time.monotonic() - begin < 20
    app.page.locator("#mh-quality").get_by_text("Fast").click()
    app.another(photo)
    app.page.locator("#mh-about").get_by_text("street.jpg").wait_for()
    app.page.click("#mh-restore")
    app.page.wait_for_selector("#mh-slider img")
    expected = restore(model, photo).image
    np.testing.assert_array_equal(app.saved_pixels(), expected)


def test_a_closed_tab_stops_its_work_and_the_next_page_has_its_turn(
    served, new_page, photo, large_photo
):
    busy = new_page(served.url)
    busy.start(large_photo, "Tiles")
    busy.says(MANY_TILES)
    app = new_page(served.url)
    app.start(photo)
    app.says("1 photo is before yours")
    first, second = visitors(served)[-2:]
    busy.page.context.close()
    app.says("Restored in")
    assert second.retouched is not None and first.retouched is None
    assert first not in visitors(served) and not first.folder.exists()


@pytest.mark.parametrize("kind", ["text", "pixels"])
def test_a_wrong_file_is_a_sentence_and_the_next_photo_works(
    served, new_page, photo, text_file, tmp_path, kind
):
    app = new_page(served.url)
    if kind == "text":
        app.drop(text_file)
        app.says("letter.jpg: it is not an image of a kind that can be")
    else:
        Image.new("RGB", (2000, 1001)).save(tmp_path / "wall.png")
        app.drop(tmp_path / "wall.png")
        app.says("wall.png: it has 2.01 million pixels; this page takes up to 2 meg")
    assert app.page.locator("#mh-restore").is_disabled()
    app.restore(photo)
    if kind == "text":
        app.another(text_file)
        app.says("letter.jpg: it is not an image")
        # The photo before is still there.
        assert app.saved_pixels().shape == (128, 192, 3)


def test_a_full_disk_is_a_sentence_and_the_next_photo_works(
    served, new_page, photo, monkeypatch
):
    async def write(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def save(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    said = "The disk of this machine is full: make room and try again."
    app = new_page(served.url)
    with monkeypatch.context() as patch:
        patch.setattr("starlette.datastructures.UploadFile.write", write)
        app.drop(photo)
        app.page.locator(".toast-body").get_by_text(said).wait_for()
    app.restore(photo)
    with monkeypatch.context() as patch:
        patch.setattr("keras_mhdeblur.app.retouching.write_image", save)
        app.page.click("#mh-save")
        app.says(said)
    assert app.saved_pixels().shape == (128, 192, 3)


def test_what_a_format_cannot_hold_is_a_sentence(served, new_page, photo, tmp_path):
    image = Image.open(photo)
    image.putalpha(200)
    image.save(tmp_path / "clear.png")
    app = new_page(served.url)
    app.restore(tmp_path / "clear.png")
    app.page.locator("#mh-format").get_by_text("JPEG").click()
    app.page.click("#mh-save")
    app.says("JPEG files cannot hold this image")
    app.page.locator("#mh-format").get_by_text("PNG").click()
    assert app.saved_pixels().shape == (128, 192, 4)


def test_many_photos(served, new_page, model, photo, text_file, tmp_path):
    Image.open(photo).crop((0, 0, 100, 80)).save(tmp_path / "other.png")
    app = new_page(served.url)
    app.page.get_by_role("tab", name="Many photos").click()
    paths = [photo, text_file, tmp_path / "other.png"]
    app.page.set_input_files("#mh-files input[type=file]", paths)
    app.says("3 photos are ready", "#mh-many-status")
    app.page.click("#mh-start")
    app.says("2 of 3 photos restored. 1 failed", "#mh-many-status")
    rows = app.page.locator("#mh-results tbody tr").all()
    cells = [row.locator("td").all_inner_texts() for row in rows]
    assert [row[0] for row in cells] == ["street.jpg", "letter.jpg", "other.png"]
    assert [row[1] for row in cells] == ["192 × 128", "", "100 × 80"]
    assert [row[4] for row in cells] == [
        "restored",
        "It is not an image of a kind that can be read.",
        "restored",
    ]
    name, data = app.saved("#mh-zip")
    assert name == "restored.zip"
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert file.namelist() == ["street_restored.png", "other_restored.png"]
        image = np.asarray(Image.open(file.open("street_restored.png")))
    np.testing.assert_array_equal(image, restore(model, photo, hypotheses=False).image)
