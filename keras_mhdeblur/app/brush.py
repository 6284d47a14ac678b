"""A brush on a picture: marks a region with mouse, pen or finger."""

import base64
import binascii
import io
import itertools
import warnings

import numpy as np
from PIL import Image

from keras_mhdeblur.app.uploads import RefusedError

# Longest side of the picture that is brushed on, and bytes of what the brush sends.
SIDE = 1280
_LARGEST = 8 * 10**6
_numbers = itertools.count()
_PREFIX = "data:image/png;base64,"

# Strokes are drawn opaque and the canvas is shown half clear, so that crossing strokes
# leave no darker place. Where the picture changes, the canvas stays and is wiped.
SCRIPT = """
let canvas = null, last = null;
const at = event => {
  const box = canvas.getBoundingClientRect();
  return [
    (event.clientX - box.left) * canvas.width / box.width,
    (event.clientY - box.top) * canvas.height / box.height,
  ];
};
const stroke = (from, to) => {
  const context = canvas.getContext("2d");
  const size = element.querySelector("input").value / 100;
  context.lineWidth = size * Math.max(canvas.width, canvas.height);
  context.lineCap = context.lineJoin = "round";
  context.strokeStyle = getComputedStyle(canvas).color;
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
};
element.addEventListener("pointerdown", event => {
  if (event.target.tagName !== "CANVAS") return;
  event.preventDefault();
  canvas = event.target;
  canvas.setPointerCapture(event.pointerId);
  last = at(event);
  stroke(last, last);
});
element.addEventListener("pointermove", event => {
  if (!last) return;
  const here = at(event);
  stroke(last, here);
  last = here;
});
const end = () => {
  if (!last) return;
  last = null;
  trigger("input", {mask: canvas.toDataURL("image/png")});
};
element.addEventListener("pointerup", end);
element.addEventListener("pointercancel", end);
const wipe = () => {
  const board = element.querySelector("canvas");
  if (board) board.getContext("2d").clearRect(0, 0, board.width, board.height);
};
watch("value", wipe);
element.addEventListener("click", event => {
  if (event.target.tagName !== "BUTTON") return;
  wipe();
  trigger("input", {mask: ""});
});
"""


def board(picture):
    """HTML of a picture to brush on.

    Args:
        picture: PIL image, RGB.

    Returns:
        HTML, another one every time.
    """
    picture = picture.copy()
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=92)
    data = base64.b64encode(file.getvalue()).decode()
    width, height = picture.size
    return (
        f'<div class="mh-board" data-number="{next(_numbers)}" '
        f'style="--ratio: {width / height:.4f}">'
        f'<img alt="" src="data:image/jpeg;base64,{data}">'
        f'<canvas width="{width}" height="{height}"></canvas></div>'
        '<div class="mh-brush"><label>Brush '
        '<input type="range" min="1" max="25" value="8" aria-label="Size of the brush">'
        "</label><button type=button>Clear</button></div>"
    )


def mask_of(data, size):
    """The region that was brushed.

    Args:
        data: data URL of a PNG file whose alpha is the brush's; "": nothing.
        size: (width, height) of the mask.

    Returns:
        Booleans (H, W); None where nothing was brushed.

    Raises:
        RefusedError: if it is no such URL.
    """
    if not data:
        return None
    refused = RefusedError("The brushed region did not arrive: brush again.")
    if not isinstance(data, str) or not data.startswith(_PREFIX):
        raise refused
    if len(data) > _LARGEST:
        raise refused
    try:
        file = io.BytesIO(base64.b64decode(data[len(_PREFIX) :], validate=True))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=["PNG"]) as image:
                if max(image.size) > SIDE or image.mode != "RGBA":
                    raise refused
                alpha = image.getchannel("A")
    except (binascii.Error, OSError, SyntaxError, Image.DecompressionBombError):
        raise refused from None
    alpha = alpha.resize(size, Image.Resampling.BILINEAR)
    mask = np.asarray(alpha) >= 128
    return mask if mask.any() else None
