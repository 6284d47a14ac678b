// The tiles of a photo, as in examples/restore_tiles.py. The page counts them, the
// worker restores them.
"use strict";

// Starts of tiles along an axis: even, with `overlap` shared pixels or more.
function starts(size, tile, overlap) {
  size = Math.max(size, tile);
  const count = 1 + Math.ceil((size - tile) / (tile - overlap));
  return Array.from({length: count}, (_, index) =>
    halfToEven(index * (size - tile) / Math.max(count - 1, 1)));
}

// Weights along an axis, that fall to nearly nothing at the ends of a tile.
function fade(tile, overlap) {
  return Float32Array.from({length: tile}, (_, index) =>
    Math.min((Math.min(index, tile - 1 - index) + 0.5) / overlap, 1));
}

// Place of a pixel in an image of `size` pixels that is mirrored at its ends.
function mirrored(index, size) {
  index %= 2 * size;
  return index < size ? index : 2 * size - 1 - index;
}

function halfToEven(number) {
  const floor = Math.floor(number), rest = number - floor;
  return floor + (rest > 0.5 || (rest === 0.5 && floor % 2) ? 1 : 0);
}
