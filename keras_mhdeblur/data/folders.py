"""Folders of photos as `tf.data` datasets of (blurry, sharp) patches."""

import pathlib

import tensorflow as tf
from PIL import Image

from keras_mhdeblur.data.synthesis import synthesize_motion_blur

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


def paired_folder(
    blur_dir,
    sharp_dir,
    patch_size=256,
    batch_size=8,
    *,
    augment=True,
    crops_per_image=1,
    seed=0,
    skip_broken=False,
    stream_from=None,
):
    """Pairs of blurry and sharp images with equal file names.

    For training, every image gives random patches, each with its own origin, the same
    in both images; with `augment` also its own flips and quarter turns. Every pass
    over the dataset draws new ones. With `patch_size=None` whole images come in
    the order of their names, in batches of one, for evaluation.

    Args:
        blur_dir, sharp_dir: folders; a pair has the same path in both (the suffix may
            differ). PNG, JPEG or BMP, 8 bits.
        patch_size: side of the square patches in pixels, or None.
        batch_size: patches per batch; an incomplete last batch is dropped.
        augment: random flips and quarter turns.
        crops_per_image: patches per decoded image; more cost little, as decoding
            takes most of the time.
        seed: integer; the same seed gives the same patches.
        skip_broken: leave out broken and unmatched files instead of raising.
        stream_from: None for one pass per iteration, or the number of the first batch
            of an endless stream: how a resumed training continues where it stopped.

    Returns:
        `tf.data.Dataset` of (blurry, sharp), float32 (B, H, W, 3) in [0, 1].

    Raises:
        ValueError: files are broken, without partner, of different sizes or smaller
            than a patch; the message names them.
    """
    pairs = _matching_files(blur_dir, sharp_dir, patch_size, skip_broken)

    def load(paths):
        # One array, so that both are cropped and turned alike.
        return tf.concat([_decode(paths[0]), _decode(paths[1])], axis=-1)

    paths = tf.constant([[str(blur), str(sharp)] for blur, sharp in pairs])
    if patch_size is None:
        dataset = tf.data.Dataset.from_tensor_slices(paths)
        dataset = dataset.map(load, tf.data.AUTOTUNE).batch(1)
    else:
        dataset = _patches(
            paths, load, patch_size, crops_per_image, augment, seed, batch_size,
            stream_from,
        )  # fmt: skip
        dataset = dataset.map(lambda patches, seeds: patches)
    dataset = dataset.map(lambda both: (_unit(both[..., :3]), _unit(both[..., 3:])))
    return dataset.prefetch(tf.data.AUTOTUNE)


def synthesized_folder(
    photo_dir,
    patch_size=256,
    batch_size=8,
    *,
    augment=True,
    crops_per_image=8,
    seed=0,
    skip_broken=False,
    stream_from=None,
    max_path=24.0,
    **blur,
):
    """Sharp photos, blurred on the fly by `synthesize_motion_blur`.

    Args:
        photo_dir: folder with sharp photos (PNG, JPEG or BMP), searched recursively. They
            should be sharp at the pixel: reduce camera pictures to 1 to 2 megapixels.
        patch_size, batch_size, augment, crops_per_image, seed, skip_broken,
            stream_from: as in `paired_folder`.
        max_path, blur: arguments of `synthesize_motion_blur`.

    Returns:
        `tf.data.Dataset` of (blurry, sharp), float32 (B, patch_size, patch_size, 3) in
        [0, 1].

    Raises:
        ValueError: a photo is broken or too small; the message names it.
    """
    margin = int(max_path) + 4
    source_size = patch_size + 2 * margin
    photos = list_images(photo_dir)
    problems = {photo: _problem(photo, source_size) for photo in photos}
    photos = _sound(problems, skip_broken, "photos")
    dataset = _patches(
        tf.constant([str(photo) for photo in photos]), _decode, source_size,
        crops_per_image, augment, seed, batch_size, stream_from,
    )  # fmt: skip

    def blurred(patches, seeds):
        return synthesize_motion_blur(
            _unit(patches), seeds, max_path=max_path, margin=margin, **blur
        )

    return dataset.map(blurred, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def list_images(folder):
    """Image files below a folder, sorted.

    Raises:
        ValueError: the folder does not exist or holds no image.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise ValueError(f"There is no such folder. Received: folder={str(folder)!r}")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise ValueError(
            f"The folder holds no {', '.join(SUFFIXES)} file. "
            f"Received: folder={str(folder)!r}"
        )
    return files


def _matching_files(blur_dir, sharp_dir, patch_size, skip_broken):
    blurry, sharp = (
        {p.relative_to(d).with_suffix(""): p for p in list_images(d)}
        for d in (blur_dir, sharp_dir)
    )
    problems = {}
    for name in sorted(blurry.keys() | sharp.keys()):
        pair = blurry.get(name), sharp.get(name)
        if None in pair:
            missing = sharp_dir if pair[1] is None else blur_dir
            problems[pair] = f"no partner in {missing}"
            continue
        problems[pair] = _problem(pair[0], patch_size) or _problem(pair[1], patch_size)
        if not problems[pair]:
            sizes = [Image.open(path).size for path in pair]
            if sizes[0] != sizes[1]:
                problems[pair] = "sizes differ: {}x{} and {}x{}".format(
                    *sizes[0], *sizes[1]
                )
    return _sound(problems, skip_broken, "pairs")


def _sound(problems, skip_broken, what):
    """Entries without problem; raises, naming the others, unless they may be skipped."""
    broken = {entry: problem for entry, problem in problems.items() if problem}
    sound = [entry for entry in problems if entry not in broken]
    if broken and not (skip_broken and sound):
        lines = [
            f"  {entry if isinstance(entry, pathlib.Path) else entry[0] or entry[1]}: "
            f"{problem}"
            for entry, problem in broken.items()
        ]
        more = [f"  and {len(lines) - 20} more"] if len(lines) > 20 else []
        raise ValueError(
            f"{len(broken)} of {len(problems)} {what} cannot be used "
            "(`skip_broken=True` leaves them out):\n" + "\n".join(lines[:20] + more)
        )
    return sound


def _problem(path, min_size):
    """What is wrong with an image file, or None. Pixels are not decoded."""
    try:
        with Image.open(path) as image:
            size = image.size
            image.verify()
        if path.suffix.lower() in (".jpg", ".jpeg"):
            with open(path, "rb") as file:
                file.seek(max(0, path.stat().st_size - 4096))
                if b"\xff\xd9" not in file.read():
                    return "truncated JPEG file"
    except Exception as error:  # Pillow raises many kinds
        return f"not a readable image ({error})"
    if min_size is not None and min(size) < min_size:
        return f"{size[0]}x{size[1]} is smaller than the {min_size} pixels needed"
    return None


def _decode(path):
    """File to uint8 (H, W, 3)."""
    data = tf.io.read_file(path)
    # TensorFlow's default JPEG arithmetic is off by up to 13 levels.
    image = tf.cond(
        tf.io.is_jpeg(data),
        lambda: tf.io.decode_jpeg(data, 3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(data, 3, expand_animations=False),
    )
    image.set_shape((None, None, 3))
    return image


def _unit(images):
    return tf.cast(images, tf.float32) / 255.0


def _patches(
    paths, load, size, crops_per_image, augment, seed, batch_size, stream_from
):
    """Dataset of (patches (B, size, size, C) uint8, seeds (B,) int32).

    Everything random is a function of `seed` and the running number of the visit to
    an image, so that a stream can start anywhere.
    """
    count = int(paths.shape[0])
    seed = int(seed) % 2**31

    def crops_of(visit):
        epoch, position = visit // count, visit % count
        order_seed = tf.stack([tf.cast(seed, tf.int64), epoch])
        index = tf.random.experimental.index_shuffle(
            position, tf.cast(order_seed, tf.int32), count - 1
        )
        image = load(paths[index])

        def crop(k):
            sample = visit * crops_per_image + k
            seeds = tf.stack([tf.cast(seed, tf.int64), sample])
            draws = tf.random.stateless_uniform((5,), seeds)
            limits = tf.cast(tf.shape(image)[:2] - size + 1, tf.float32)
            y, x = tf.unstack(tf.cast(draws[:2] * limits, tf.int32))
            patch = image[y : y + size, x : x + size]
            if augment:
                for index, flip in enumerate((_flip_rows, _flip_columns, _turn)):
                    patch = tf.cond(
                        draws[2 + index] < 0.5,
                        lambda flip=flip, patch=patch: flip(patch),
                        lambda patch=patch: patch,
                    )
            patch = tf.ensure_shape(patch, (size, size, None))
            return patch, tf.cast((sample + seed) % 2**31, tf.int32)

        return tf.data.Dataset.range(crops_per_image, output_type=tf.int64).map(crop)

    if stream_from is None:
        # Another number for every pass over the dataset.
        passes = tf.data.Dataset.random(seed, rerandomize_each_iteration=True).take(1)
        visits = passes.flat_map(
            lambda number: tf.data.Dataset.range(count).map(
                lambda position: (number % 2**20) * count + position
            )
        )
    else:
        first = stream_from * batch_size // crops_per_image
        visits = tf.data.Dataset.counter(first, dtype=tf.int64)
    dataset = visits.interleave(
        crops_of, cycle_length=4, num_parallel_calls=2, deterministic=True
    )
    if crops_per_image > 1:
        dataset = dataset.shuffle(8 * crops_per_image, seed)
    return dataset.batch(batch_size, drop_remainder=True)


def _flip_rows(patch):
    return patch[::-1]


def _flip_columns(patch):
    return patch[:, ::-1]


def _turn(patch):
    return tf.transpose(patch, (1, 0, 2))
