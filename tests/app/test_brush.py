import base64
import io

import numpy as np
import pytest
from PIL import Image

from keras_mhdeblur.app import brush
from keras_mhdeblur.app.uploads import RefusedError


def url(image, file_format="PNG"):
    file = io.BytesIO()
    image.save(file, file_format)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def test_mask_of_the_canvas_has_the_photo_size():
    canvas = Image.new("RGBA", (40, 20))
    canvas.paste((20, 200, 170, 255), (10, 5, 30, 15))
    mask = brush.mask_of(url(canvas), (400, 200))
    assert mask.shape == (200, 400) and mask.dtype == bool
    assert mask[60:140, 110:290].all()
    assert not mask[:, :90].any() and not mask[:40].any()
    assert mask.mean() == pytest.approx(0.25, abs=0.01)


def test_nothing_brushed():
    assert brush.mask_of("", (8, 8)) is None
    assert brush.mask_of(url(Image.new("RGBA", (8, 8))), (8, 8)) is None


@pytest.mark.parametrize(
    "data",
    [
        7,
        "data:text/plain;base64,AAAA",
        "data:image/png;base64,!!!!",
        "data:image/png;base64,AAAA",
        url(Image.new("RGB", (8, 8))),
        url(Image.new("RGBA", (brush.SIDE + 1, 1))),
        url(Image.new("RGB", (8, 8)), "BMP"),
        "data:image/png;base64," + 10**7 * "A",
    ],
)
def test_other_data_is_refused(data):
    with pytest.raises(RefusedError, match="brush again"):
        brush.mask_of(data, (8, 8))


def test_the_board_shows_the_picture():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (90, 160, 3), "uint8")
    picture = Image.fromarray(noise).resize((2560, 1440))
    html = brush.board(picture)
    assert '<canvas width="1280" height="720">' in html
    data = html.split("base64,")[1].split('"')[0]
    shown = Image.open(io.BytesIO(base64.b64decode(data)))
    assert shown.size == (1280, 720)
    assert picture.size == (2560, 1440)
