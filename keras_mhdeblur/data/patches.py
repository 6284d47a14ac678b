"""Which patches a training sees: order of the images, origins, flips and turns.

Everything random is a function of the seed and a running number, so that a stream can
start anywhere, and every source of the same images gives the same patches.
"""

import tensorflow as tf


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
    """Where a patch lies and how it is turned.

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


def random_patches(
    paths, load, size, crops_per_image, augment, seed, batch_size, stream_from
):
    """Random patches of images that are loaded one by one.

    Args:
        paths: string tensor, one entry per image.
        load: function of an entry of `paths`, gives (H, W, C) uint8.
        size: side of the square patches.
        crops_per_image: patches per loaded image.
        augment: whether to flip and turn.
        seed: integer.
        batch_size: patches per batch; an incomplete last batch is dropped.
        stream_from: None for one pass, or the number of the first batch of an endless
            stream.

    Returns:
        `tf.data.Dataset` of (patches (B, size, size, C) uint8, seeds (B,) int32).

    Raises:
        ValueError: one pass has fewer patches than a batch.
    """
    count = int(paths.shape[0])
    if stream_from is None:
        check_pass(count * crops_per_image, batch_size)
    seed = int(seed) % 2**31

    def crops_of(visit):
        image = load(paths[visited_image(visit, count, seed)])

        def crop(k):
            sample = visit * crops_per_image + k
            limits = tf.shape(image)[:2] - size + 1
            origin, turns = drawn_patch(sample, seed, limits)
            y, x = tf.unstack(origin)
            patch = image[y : y + size, x : x + size]
            if augment:
                for index, flip in enumerate((_flip_rows, _flip_columns, _transpose)):
                    patch = tf.cond(
                        turns[index],
                        lambda flip=flip, patch=patch: flip(patch),
                        lambda patch=patch: patch,
                    )
            patch = tf.ensure_shape(patch, (size, size, None))
            return patch, tf.cast((sample + seed) % 2**31, tf.int32)

        return tf.data.Dataset.range(crops_per_image, output_type=tf.int64).map(crop)

    first = None if stream_from is None else stream_from * batch_size // crops_per_image
    dataset = visits(count, seed, first).interleave(
        crops_of, cycle_length=4, num_parallel_calls=2, deterministic=True
    )
    if crops_per_image > 1:
        dataset = dataset.shuffle(8 * crops_per_image, seed)
    return dataset.batch(batch_size, drop_remainder=True)


def to_unit(images):
    """uint8 levels as float32 in [0, 1]."""
    return tf.cast(images, tf.float32) / 255.0


def _flip_rows(patch):
    return patch[::-1]


def _flip_columns(patch):
    return patch[:, ::-1]


def _transpose(patch):
    return tf.transpose(patch, (1, 0, 2))
