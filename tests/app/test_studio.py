import errno
import os
import shutil
import threading
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from keras_mhdeblur.app.studio import Choice, Studio
from keras_mhdeblur.app.turns import CancelledError
from keras_mhdeblur.app.uploads import RefusedError
from keras_mhdeblur.app.words import sentence
from keras_mhdeblur.inference import restore


def finish(steps):
    """The steps of a generator, and what it returned."""
    seen = []
    try:
        while True:
            seen.append(next(steps))
    except StopIteration as end:
        return seen, end.value


def outcomes(rows):
    return [(row.path.name, row.outcome, row.kind) for row in rows]


def test_a_photo_is_restored_as_by_restore(make_studio, model, photo):
    studio = make_studio(tile=64)
    visitor = studio.visitor("page")
    studio.open(visitor, photo)
    assert visitor.size == (192, 128)
    steps, _ = finish(studio.restore(visitor, "fast"))
    # Tiles of 64 that share 32: five by three.
    assert max(step.done for step in steps) == steps[-1].total == 15
    expected = restore(model, photo, tile=64).image
    np.testing.assert_array_equal(visitor.retouched.result.image, expected)


def test_without_a_photo_there_is_a_sentence(make_studio):
    studio = make_studio()
    with pytest.raises(RefusedError, match="Choose a photo first"):
        finish(studio.restore(studio.visitor("page"), "fast"))


def test_a_page_that_is_left_stops_and_leaves_nothing(make_studio, large_photo):
    studio = make_studio(tile=64)
    visitor = studio.visitor("page")
    studio.open(visitor, large_photo)
    visitor.new_file("a.png").write_bytes(b"picture")
    steps = studio.restore(visitor, "fast")
    while not next(steps).done:
        pass
    studio.leave("page")
    with pytest.raises(CancelledError):
        finish(steps)
    assert not visitor.folder.exists() and not studio.visitors
    # The turn is free again.
    other = studio.visitor("other")
    studio.open(other, large_photo)
    assert next(studio.restore(other, "fast")).waiting == 0


def test_two_pages_take_turns(make_studio, large_photo, photo):
    studio = make_studio(tile=64)
    first, second = studio.visitor("first"), studio.visitor("second")
    studio.open(first, large_photo)
    studio.open(second, photo)
    busy = studio.restore(first, "fast")
    while not next(busy).done:
        pass
    waiting = studio.restore(second, "fast")
    assert next(waiting).waiting == 1
    assert second.retouched is None
    first.stop()
    with pytest.raises(CancelledError):
        finish(busy)
    finish(waiting)
    assert second.retouched is not None and first.retouched is None


def test_the_next_photo_stops_the_one_before(make_studio, large_photo, photo):
    studio = make_studio(tile=64)
    visitor = studio.visitor("page")
    studio.open(visitor, large_photo)
    steps = studio.restore(visitor, "fast")
    while not next(steps).done:
        pass
    studio.open(visitor, photo)
    with pytest.raises(CancelledError):
        finish(steps)
    assert visitor.path.name == photo.name and visitor.retouched is None


def test_after_cancel_the_result_before_is_still_there(make_studio, photo):
    studio = make_studio(tile=64)
    visitor = studio.visitor("page")
    studio.open(visitor, photo)
    finish(studio.restore(visitor, "fast"))
    before = visitor.retouched
    steps = studio.restore(visitor, "fast")
    next(steps)
    visitor.stop()
    with pytest.raises(CancelledError):
        finish(steps)
    assert visitor.retouched is before is not None


def test_results_of_few_pages_are_kept(make_studio, photo):
    studio = make_studio()
    visitors = [studio.visitor(key) for key in "abcde"]
    for visitor in visitors:
        studio.open(visitor, photo)
        finish(studio.restore(visitor, "fast"))
    kept = [visitor.retouched is not None for visitor in visitors]
    assert kept == [False, True, True, True, True]


def test_models_are_loaded_once_and_one_is_kept(model, tmp_path):
    loaded = []

    def load_model(name):
        loaded.append(name)
        return model, {}

    choices = [Choice("fast"), Choice("best")]
    studio = Studio(load_model, choices, 60, tmp_path)
    for name in ("fast", "fast", "best", "fast"):
        assert studio.model(name) == (model, {})
    assert loaded == ["fast", "best", "fast"]


def test_estimates_follow_this_machine(make_studio, large_photo, photo):
    studio = make_studio()
    megapixel = (1000, 1000)
    assert studio.estimate("good", megapixel) == 17
    visitor = studio.visitor("page")
    studio.open(visitor, photo)
    finish(studio.restore(visitor, "fast"))
    # A small photo tells nothing.
    assert studio.estimate("fast", megapixel) == 1
    Image.open(large_photo).resize((900, 600)).save(visitor.folder / "b.png")
    studio.open(visitor, visitor.folder / "b.png")
    finish(studio.restore(visitor, "fast"))
    measured = visitor.seconds / 0.54
    assert studio.estimate("fast", megapixel) == pytest.approx(measured)
    assert studio.estimate("good", megapixel) == pytest.approx(17 * measured)


def test_many_photos_into_a_zip_file(make_studio, model, photo, text_file, tmp_path):
    again = tmp_path / "STREET.png"
    shutil.copy(photo, again)  # the contents count
    studio = make_studio(max_megapixels=1)
    visitor = studio.visitor("page")
    large = tmp_path / "large.png"
    Image.new("RGB", (1500, 1000)).save(large)
    paths = [photo, text_file, large, again]
    seen, archive = finish(studio.restore_all(visitor, "fast", paths, "PNG"))
    rows, _ = seen[-1]
    assert outcomes(rows) == [
        ("street.jpg", "restored", "good"),
        ("letter.jpg", "It is not an image of a kind that can be read.", "bad"),
        (
            "large.png",
            "It has 1.5 million pixels; this page takes up to 1 megapixels.",
            "bad",
        ),
        ("STREET.png", "restored", "good"),
    ]
    assert rows[0].size == (192, 128) and 0 <= rows[0].kept <= 1 and rows[0].seconds > 0
    with zipfile.ZipFile(archive) as file:
        assert file.namelist() == ["street_restored.png", "STREET_restored_2.png"]
        with file.open("street_restored.png") as restored:
            image = np.asarray(Image.open(restored))
    np.testing.assert_array_equal(image, restore(model, photo, hypotheses=False).image)
    # Nothing lies beside the zip file.
    assert [path.name for path in archive.parent.iterdir()] == ["restored.zip"]


def test_what_was_done_before_cancel_is_in_the_zip_file(
    make_studio, photo, large_photo
):
    studio = make_studio(tile=64)
    visitor = studio.visitor("page")
    paths = [photo, large_photo, photo]
    steps = studio.restore_all(visitor, "fast", paths, "JPEG")
    while True:
        rows, step = next(steps)
        if rows[0].kind == "good" and step is not None and step.done:
            break
    visitor.stop()
    _, archive = finish(steps)
    assert [row.outcome for row in rows] == ["restored", "cancelled", "not begun"]
    assert zipfile.ZipFile(archive).namelist() == ["street_restored.jpg"]


def test_a_full_disk_is_a_row_and_spares_the_zip_file(make_studio, photo, monkeypatch):
    studio = make_studio()
    visitor = studio.visitor("page")
    usage = shutil.disk_usage("/")
    steps = studio.restore_all(visitor, "fast", [photo, photo], "PNG")
    rows, _ = next(steps)
    while rows[0].kind != "good":
        next(steps)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    _, archive = finish(steps)
    assert (
        rows[1].outcome == "The disk of this machine is full: make room and try again."
    )
    with zipfile.ZipFile(archive) as file:
        assert file.testzip() is None and file.namelist() == ["street_restored.png"]


def test_a_full_disk_is_a_sentence():
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert sentence(error).startswith("The disk of this machine is full")


def test_a_model_that_does_not_load_is_a_sentence_and_the_next_does(
    model, photo, tmp_path
):
    trouble = [MemoryError()]

    def load_model(name):
        if trouble:
            raise trouble.pop()
        return model, {}

    studio = Studio(load_model, [Choice("fast")], 60, tmp_path)
    visitor = studio.visitor("page")
    studio.open(visitor, photo)
    with pytest.raises(MemoryError) as caught:
        finish(studio.restore(visitor, "fast"))
    assert sentence(caught.value) == "There is not enough memory for this photo."
    finish(studio.restore(visitor, "fast"))
    assert visitor.retouched is not None


def test_uploads_stay_as_long_as_the_page_and_other_files_less(
    make_studio, photo, tmp_path
):
    studio = make_studio()
    visitor = studio.visitor("page")
    upload = tmp_path / "street.jpg"
    shutil.copy(photo, upload)
    studio.open(visitor, upload)
    upload.unlink()  # as the server does with old uploads
    for index in range(20):
        visitor.new_file("picture.png").write_bytes(bytes([index]))
    finish(studio.restore(visitor, "fast"))
    assert visitor.retouched is not None
    kept = sorted(path.read_bytes()[0] for path in visitor.folder.rglob("picture.png"))
    assert kept == list(range(12, 20))


def test_threads_end(make_studio, photo):
    before = threading.active_count()
    studio = make_studio()
    visitor = studio.visitor("page")
    studio.open(visitor, photo)
    finish(studio.restore(visitor, "fast"))
    for _ in range(100):
        if threading.active_count() <= before:
            break
        time.sleep(0.05)
    assert threading.active_count() <= before
