"""The patches of a training: order of the images, origins, flips and turns.

Everything random is a function of the seed and a running number, so that a stream can
start anywhere, and every source of the same images gives the same patches.
"""

import dataclasses

import tensorflow as tf

from keras_mhdeblur.data.pipeline import keep_gpus_free

keep_gpus_free()  # All modules of the input pipeline import this one.


@dataclasses.dataclass(frozen=True)
class Patches:
    """The patches that a training takes from its images, and their order.

    Every image gives random patches, each with its own origin, the same in both images
    of a pair; with `augment` also its own flips and quarter turns. Every pass over a
    dataset draws new ones.

    Args:
        patch_size: Integer, side of the square patches in pixels.
        batch_size: Integer, patches per batch; an incomplete last batch is dropped.
        augment: Boolean, random flips and quarter turns.
        crops_per_image: Integer, patches per decoded image; more cost little, as
            decoding takes most of the time. None: 8 of photos that are to be blurred,
            1 of pairs.
        seed: Integer; the same seed gives the same patches.
        stream_from: None for one pass per iteration, or the number of the first batch
            of an endless stream: how a resumed training continues where it stopped.

    Raises:
        ValueError: a size or a number is not positive.

    Example:

    ```python
    patches = keras_mhdeblur.data.Patches(patch_size=128, batch_size=8)
    pairs = keras_mhdeblur.data.paired_folder("blur", "sharp", patches)
    photos = keras_mhdeblur.data.synthesized_folder("photos", patches)
    ```
    """

    patch_size: int = 256
    batch_size: int = 8
    augment: bool = True
    crops_per_image: int | None = None
    seed: int = 0
    stream_from: int | None = None

    def __post_init__(self):
        for name in ("patch_size", "batch_size", "crops_per_image"):
            value = getattr(self, name)
            if name == "crops_per_image" and value is None:
                continue
            if not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"`{name}` must be a whole number of at least 1. "
                    f"Received: {name}={value!r}"
                )

    def first_visit(self, crops_per_image: int = 1) -> int | None:
        """Number of the visit that a stream starts with, or None for a pass."""
        if self.stream_from is None:
            return None
        return self.stream_from * self.batch_size // crops_per_image

    @property
    def short_seed(self) -> int:
        """The seed in [0, 2^31)."""
        return int(self.seed) % 2**31


def visits(count, seed, first=None):
    """Running numbers of the visits to `count` images.

    Args:
        count: number of images.
        seed: integer in [0, 2^31).
        first: number an endless stream starts with, or None for one pass over the
            images, another one every time the dataset is iterated.

    Returns:
        `tf.data.Dataset` of int64 scalars.
    """
    if first is not None:
        return tf.data.Dataset.counter(first, dtype=tf.int64)
    # Another number for every pass over the dataset.
    passes = tf.data.Dataset.random(seed, rerandomize_each_iteration=True).take(1)
    return passes.flat_map(
        lambda number: tf.data.Dataset.range(count).map(
            lambda position: (number % 2**20) * count + position
        )
    )


def visited_image(visit, count, seed):
    """Index of the image of a visit; each pass is a permutation of all images."""
    epoch, position = visit // count, visit % count
    order_seed = tf.stack([tf.cast(seed, tf.int64), epoch])
    return tf.random.experimental.index_shuffle(
        position, tf.cast(order_seed, tf.int32), count - 1
    )


def check_pass(patches, batch_size):
    """Raises ValueError if a pass has no whole batch: `fit` would train nothing."""
    if patches < batch_size:
        raise ValueError(
            f"A pass has {patches} patches, fewer than a batch, and incomplete batches "
            f"are dropped. Received: batch_size={batch_size}"
        )


def drawn_patch(sample, seed, limits):
    """The place of a patch, and its flip and turn.

    Args:
        sample: int64 running number of the patch.
        seed: integer.
        limits: (2,) int32, numbers of possible rows and columns of the origin.

    Returns:
        Origin (2,) int32, and (3,) bool: whether to flip rows, to flip columns and
        then to transpose.
    """
    draws = tf.random.stateless_uniform(
        (5,), tf.stack([tf.cast(seed, tf.int64), sample])
    )
    origin = tf.cast(draws[:2] * tf.cast(limits, tf.float32), tf.int32)
    return origin, draws[2:] < 0.5


def random_patches(paths, load, patches, crops_per_image, margin=0):
    """Random patches of images that are loaded one by one.

    Args:
        paths: string tensor, one entry per image.
        load: function of an entry of `paths`, gives (H, W, C) uint8.
        patches: `Patches`.
        crops_per_image: patches per loaded image, if `patches` does not tell.
        margin: pixels around each patch.

    Returns:
        `tf.data.Dataset` of (patches (B, S, S, C) uint8, seeds (B,) int32) with
        S = patch_size + 2 margin.

    Raises:
        ValueError: one pass has fewer patches than a batch.
    """
    count = int(paths.shape[0])
    seed, size = patches.short_seed, patches.patch_size + 2 * margin
    crops_per_image = patches.crops_per_image or crops_per_image
    if patches.stream_from is None:
        check_pass(count * crops_per_image, patches.batch_size)

    def crops_of(visit):
        image = load(paths[visited_image(visit, count, seed)])

        def crop(k):
            sample = visit * crops_per_image + k
            limits = tf.shape(image)[:2] - size + 1
            origin, turns = drawn_patch(sample, seed, limits)
            y, x = tf.unstack(origin)
            patch = image[y : y + size, x : x + size]
            if patches.augment:
                patch = _turned(patch, turns)
            patch = tf.ensure_shape(patch, (size, size, None))
            return patch, tf.cast((sample + seed) % 2**31, tf.int32)

        return tf.data.Dataset.range(crops_per_image, output_type=tf.int64).map(crop)

    dataset = visits(count, seed, patches.first_visit(crops_per_image)).interleave(
        crops_of, cycle_length=4, num_parallel_calls=2, deterministic=True
    )
    if crops_per_image > 1:
        dataset = dataset.shuffle(8 * crops_per_image, seed)
    return dataset.batch(patches.batch_size, drop_remainder=True)


def to_unit(images):
    """uint8 levels as float32 in [0, 1]."""
    return tf.cast(images, tf.float32) / 255.0


def _turned(patch, turns):
    for index, flip in enumerate((_flip_rows, _flip_columns, _transpose)):
        patch = tf.cond(
            turns[index],
            lambda flip=flip, patch=patch: flip(patch),
            lambda patch=patch: patch,
        )
    return patch


def _flip_rows(patch):
    return patch[::-1]


def _flip_columns(patch):
    return patch[:, ::-1]


def _transpose(patch):
    return tf.transpose(patch, (1, 0, 2))
