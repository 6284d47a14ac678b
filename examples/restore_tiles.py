"""Restores a photo with a LiteRT file of a fixed size, as phones and browsers do it.

mhdeblur export nafnet_mh_c --format litert --size 256x256 --weights float16 \
    --output tile.tflite
python examples/restore_tiles.py tile.tflite photo.jpg restored.png

Needs NumPy, Pillow and ai-edge-litert only. A tile sees less of the photo than
`mhdeblur restore` does, and differs from it by about one grey level on average.

`maxim_mh_c` has tiles of the same size. Its pixels depend on the whole tile each, so
that more overlap is no better: `--stages 1` of the export and `--overlap 32` here.

`examples/browser` is a page that does all this. What `restore_tile` does is, elsewhere:

Android (Kotlin, com.google.ai.edge.litert):
    val model = CompiledModel.create(
        context.assets, "tile.tflite", CompiledModel.Options(Accelerator.CPU))
    val inputs = model.createInputBuffers()
    val outputs = model.createOutputBuffers()
    inputs[0].writeFloat(tile)  // 256 * 256 * 3 values in [0, 1], row by row, RGB
    model.run(inputs, outputs)
    val restored = outputs[0].readFloat()

iOS (Swift, TensorFlowLiteSwift):
    let interpreter = try Interpreter(modelPath: path)
    try interpreter.allocateTensors()
    try interpreter.copy(tile, toInputAt: 0)  // Data of as many Float32
    try interpreter.invoke()
    let restored = try interpreter.output(at: 0).data

Browser (JavaScript, @litertjs/core):
    await loadLiteRt("wasm/");
    const model = await loadAndCompile("tile.tflite", {accelerator: "wasm"});
    const [restored] = await model.run(new Tensor(tile, [1, 256, 256, 3]));
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

# Pixels that neighbouring tiles share at least, where one fades into the other.
OVERLAP = 64


def main():
    parser = argparse.ArgumentParser(
        description="Restores a photo with a LiteRT file of a fixed size."
    )
    parser.add_argument("model", type=Path, help=".tflite file with a fixed --size")
    parser.add_argument("photo", type=Path)
    parser.add_argument("output", type=Path, help="image file to write")
    parser.add_argument(
        "--overlap",
        type=int,
        default=OVERLAP,
        metavar="N",
        help="pixels that tiles share (default: %(default)s)",
    )
    options = parser.parse_args()
    try:
        interpreter = Interpreter(str(options.model))
        image = ImageOps.exif_transpose(Image.open(options.photo)).convert("RGB")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    interpreter.allocate_tensors()
    (_, *tile_size, _) = interpreter.get_input_details()[0]["shape"]
    if not 0 < options.overlap < min(tile_size):
        sys.exit(
            f"error: {options.model} has no fixed size above --overlap, "
            f"{options.overlap} pixels."
        )

    def restore_tile(tile):
        """(h, w, 3) to (h, w, 3), float32 in [0, 1]."""
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], tile[None])
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]

    pixels = np.asarray(image, "float32") / 255
    restored = in_tiles(restore_tile, pixels, tile_size, options.overlap)
    Image.fromarray(np.rint(255 * restored).astype("uint8")).save(options.output)
    print(f"Restored {options.photo} to {options.output}.")


def in_tiles(restore_tile, image, tile_size, overlap=OVERLAP):
    """A function of tiles, applied all over an image; seams are faded over."""
    height, width = image.shape[:2]
    # Images smaller than a tile are mirrored.
    missing = [(0, max(tile - n, 0)) for tile, n in zip(tile_size, (height, width))]
    image = np.pad(image, [*missing, (0, 0)], "symmetric")
    fades = [fade(size, overlap) for size in tile_size]
    weight = (fades[0][:, None] * fades[1])[..., None]
    total, weights = np.zeros_like(image), np.zeros_like(image[..., :1])
    for top in starts(image.shape[0], tile_size[0], overlap):
        for left in starts(image.shape[1], tile_size[1], overlap):
            part = np.s_[top : top + tile_size[0], left : left + tile_size[1]]
            total[part] += weight * restore_tile(image[part])
            weights[part] += weight
    return (total / weights)[:height, :width]


def starts(size, tile, overlap):
    """Starts of tiles along an axis: even, with `overlap` shared pixels or more."""
    count = 1 + -(-(size - tile) // (tile - overlap))
    return [round(index * (size - tile) / max(count - 1, 1)) for index in range(count)]


def fade(tile, overlap):
    """Weights along an axis, that fall to nearly nothing at the ends."""
    from_edge = np.minimum(np.arange(tile), np.arange(tile)[::-1]) + 0.5
    return np.minimum(from_edge / overlap, 1).astype("float32")


if __name__ == "__main__":
    main()
