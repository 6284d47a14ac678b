import pytest

from keras_mhdeblur.app import words
from keras_mhdeblur.app.studio import Row
from keras_mhdeblur.app.turns import Step


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0.2, "about a second"),
        (3.4, "about 3 seconds"),
        (22, "about 20 seconds"),
        (70, "about a minute"),
        (130, "about 2 minutes"),
        (4000, "about an hour"),
        (9000, "about 2 hours"),
    ],
)
def test_duration(seconds, text):
    assert words.duration(seconds) == text


def test_choice():
    assert words.choice("fast", 3.1, True) == "Fast, about 3 seconds"
    assert words.choice("good", 16.8, False) == "Good, 17 s a megapixel"
    assert words.choice("/home/me/preset", None, True) == "/home/me/preset"


@pytest.mark.parametrize(
    "step, estimate, left",
    [
        (Step(done=0, total=0, seconds=1), 9, None),
        (Step(done=0, total=1, seconds=2), 9, 7),
        (Step(done=0, total=1, seconds=12), 9, 0),
        (Step(done=0, total=4, seconds=2), None, None),
        # Two of six took ten seconds; one second of the third has passed.
        (Step(done=2, total=6, seconds=11, since=1), 9, 19),
    ],
)
def test_time_left(step, estimate, left):
    assert words.time_left(step, estimate) == left


def test_progress():
    step = Step(done=2, total=6, seconds=11, since=1)
    html = words.progress(step)
    assert "Tile 3 of 6" in html and "about 20 seconds left" in html
    assert 'aria-valuenow="37"' in html  # 11 of 30 seconds
    step.stopping = True
    assert "Stopping after this tile" in words.progress(step)
    assert "2 photos are before yours" in words.progress(Step(waiting=2))


def test_names_of_files_are_no_html(tmp_path):
    path = tmp_path / "<img src=x onerror=alert(1)>.jpg"
    for html in (
        words.about_photo(path, (2, 1), 9),
        words.table([Row(path, outcome="<b>")]),
        words.note(f"{path.name}: it is empty.", "bad"),
    ):
        assert "<img" not in html and "<b>&lt;b&gt;" not in html
        assert "&lt;img src=x" in html


def test_sentences():
    error = ValueError(
        "JPEG files cannot hold this image (it has an alpha channel); PNG files can. "
        "Received: path=/tmp/a.jpg"
    )
    assert words.sentence(error) == (
        "JPEG files cannot hold this image (it has an alpha channel); PNG files can."
    )
    assert words.sentence(RuntimeError()) == "Something went wrong: RuntimeError."
