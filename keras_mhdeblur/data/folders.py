"""Folders of photos as `tf.data` datasets of (blurry, sharp) patches."""

import pathlib

import keras
import tensorflow as tf
from PIL import Image

from keras_mhdeblur.data.motion_blur import MotionBlur
from keras_mhdeblur.data.patches import Patches, random_patches, to_unit
from keras_mhdeblur.utils.types import FilePairs, PathLike

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
_FORMATS = ("PNG", "JPEG", "MPO", "BMP")  # MPO: a JPEG with further pictures behind it
_ORIENTATION_TAG = 0x0112


def paired_folder(
    blur_dir: PathLike,
    sharp_dir: PathLike,
    patches: Patches | None = None,
    *,
    skip_broken: bool = False,
) -> tf.data.Dataset:
    """Pairs of blurry and sharp images with equal file names.

    Args:
        blur_dir, sharp_dir: folders; a pair has the same path in both (the suffix may
            differ). PNG, JPEG or BMP, 8 bits. Pixels are taken as stored; a pair with
            two EXIF orientations is refused.
        patches: `Patches`, to train; None for whole images in the order of their
            names, in batches of one, to evaluate.
        skip_broken: leave out broken and unmatched files instead of raising.

    Returns:
        `tf.data.Dataset` of (blurry, sharp), float32 (B, H, W, 3) in [0, 1].

    Raises:
        ValueError: files are broken, without partner, of different sizes or smaller
            than a patch, and the message names them; or one pass has fewer patches
            than a batch.
    """
    problems = {
        files: problem or _pair_problem(files, patches and patches.patch_size)
        for files, problem in match_folders(blur_dir, sharp_dir).items()
    }
    return _pair_dataset(_sound(problems, skip_broken, "pairs"), patches)


def paired_files(
    pairs: FilePairs, patches: Patches | None = None, *, skip_broken: bool = False
) -> tf.data.Dataset:
    """Pairs of blurry and sharp images, given as a list.

    Args:
        pairs: iterable of (blurry path, sharp path), for example a `Benchmark`.
        patches, skip_broken: as in `paired_folder`.

    Returns:
        `tf.data.Dataset` of (blurry, sharp), float32 (B, H, W, 3) in [0, 1].

    Raises:
        ValueError: files are broken, of different sizes or smaller than a patch, and
            the message names them; or one pass has fewer patches than a batch.
    """
    pairs = sound_pairs(pairs, patches and patches.patch_size, skip_broken)
    return _pair_dataset(pairs, patches)


def synthesized_folder(
    photo_dir: PathLike,
    patches: Patches,
    blur: MotionBlur | None = None,
    *,
    skip_broken: bool = False,
) -> tf.data.Dataset:
    """Sharp photos, blurred on the fly by a `MotionBlur`, on the CPU.

    With TensorFlow's backend that is part of the input pipeline; with the others it is
    slower. Where a GPU trains, `sharp_folder` and `MotionBlur` do the same there.

    Args:
        photo_dir: folder with sharp photos (PNG, JPEG or BMP), searched recursively.
            They should be sharp at the pixel: reduce camera pictures to 1 to 2
            megapixels.
        patches: `Patches`.
        blur: `MotionBlur`; by default `MotionBlur()`.
        skip_broken: leave out broken photos instead of raising.

    Returns:
        `tf.data.Dataset` of (blurry, sharp), float32 (B, patch_size, patch_size, 3) in
        [0, 1]; with `blur.num_targets` above 1, sharp is (B, num_targets, ...).

    Raises:
        ValueError: a photo is broken or too small, and the message names it; or one
            pass has fewer patches than a batch.
    """
    blur = MotionBlur() if blur is None else blur
    dataset = sharp_folder(
        photo_dir, patches, margin=blur.margin, skip_broken=skip_broken
    )

    def blurred(images, seeds):
        if keras.backend.backend() == "tensorflow":
            return blur(images, seeds)
        # The other backends cannot be part of TensorFlow's graph.
        size, image = patches.batch_size, (patches.patch_size, patches.patch_size, 3)
        targets = (blur.num_targets,) if blur.num_targets > 1 else ()
        made = tf.numpy_function(
            lambda *batch: list(map(keras.ops.convert_to_numpy, blur(*batch))),
            (images, seeds),
            (tf.float32, tf.float32),
        )
        shapes = (size, *image), (size, *targets, *image)
        return list(map(tf.ensure_shape, made, shapes))

    return dataset.map(blurred, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def sharp_folder(
    photo_dir: PathLike, patches: Patches, *, margin: int = 0, skip_broken: bool = False
) -> tf.data.Dataset:
    """Patches of sharp photos, to be blurred in the training step.

    Args:
        photo_dir, patches, skip_broken: as in `synthesized_folder`.
        margin: pixels around a patch that the blur may reach for, `MotionBlur.margin`.

    Returns:
        `tf.data.Dataset` of (patches, seeds), uint8 (B, S, S, 3) with
        S = patch_size + 2 margin, and int32 (B,), one seed per patch.

    Raises:
        ValueError: a photo is broken or too small, and the message names it; or one
            pass has fewer patches than a batch.
    """
    source_size = patches.patch_size + 2 * margin
    photos = list_images(photo_dir)
    problems = {photo: _problem(photo, source_size) for photo in photos}
    photos = _sound(problems, skip_broken, "photos")
    paths = tf.constant([str(photo) for photo in photos])
    dataset = random_patches(paths, _decode, patches, crops_per_image=8, margin=margin)
    return dataset.prefetch(tf.data.AUTOTUNE)


def list_images(folder: PathLike) -> list[pathlib.Path]:
    """Image files below a folder, sorted; hidden ones are left out.

    Raises:
        ValueError: the folder does not exist or holds no image.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise ValueError(f"There is no such folder. Received: folder={str(folder)!r}")
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not files:
        raise ValueError(
            f"The folder holds no {', '.join(SUFFIXES)} file. "
            f"Received: folder={str(folder)!r}"
        )
    return files


def match_folders(blur_dir, sharp_dir, name_of=None):
    """Files of two folders with equal names.

    Args:
        blur_dir, sharp_dir: folders, searched recursively.
        name_of: function of a path relative to its folder; files whose names are equal
            are a pair. By default the path without its suffix.

    Returns:
        Dictionary, sorted by name: (blurry path, sharp path) -> None, and for files
        that are no pair their paths -> what is wrong, with the name of a file.

    Raises:
        ValueError: a folder does not exist or holds no image.
    """
    name_of = name_of or (lambda path: path.with_suffix(""))
    blurry, sharp = (_files_by_name(f, name_of) for f in (blur_dir, sharp_dir))
    matches = {}
    for name in sorted(blurry.keys() | sharp.keys()):
        files = (*blurry.get(name, ()), *sharp.get(name, ()))
        matches[files] = None
        if name not in blurry or name not in sharp:
            missing = sharp_dir if name in blurry else blur_dir
            matches[files] = f"{files[0]}: no partner in {missing}"
        elif len(files) > 2:
            others = ", ".join(str(file) for file in files[1:])
            matches[files] = f"{files[0]}: has the same name as {others}"
    return matches


def list_pairs(
    blur_dir: PathLike, sharp_dir: PathLike, skip_broken: bool = False
) -> list[tuple[pathlib.Path, pathlib.Path]]:
    """Pairs of files with equal names in two folders, sorted.

    Args:
        blur_dir, sharp_dir: folders; a pair has the same path in both (the suffix may
            differ).
        skip_broken: leave out files without partner instead of raising.

    Returns:
        List of (blurry path, sharp path).

    Raises:
        ValueError: files have no partner; the message names them.
    """
    return _sound(match_folders(blur_dir, sharp_dir), skip_broken, "pairs")


def sound_pairs(pairs, min_size=None, skip_broken=False):
    """The pairs of files that can be decoded and have one size.

    Args:
        pairs: iterable of (blurry path, sharp path).
        min_size: pixels both sides of an image must have, or None.
        skip_broken: leave out the others instead of raising.

    Returns:
        List of (blurry path, sharp path).

    Raises:
        ValueError: the message names the files that cannot be used.
    """
    pairs = [tuple(map(pathlib.Path, pair)) for pair in pairs]
    if not pairs:
        raise ValueError("`pairs` must hold at least one pair. Received: pairs=[]")
    problems = {pair: _pair_problem(pair, min_size) for pair in pairs}
    return _sound(problems, skip_broken, "pairs")


def decoded_pairs(pairs):
    """Whole images of pairs of files, in their order.

    Args:
        pairs: list of (blurry path, sharp path), each of one size.

    Returns:
        `tf.data.Dataset` of uint8 (H, W, 6), blurry and sharp channels.
    """
    dataset = tf.data.Dataset.from_tensor_slices(_path_tensor(pairs))
    return dataset.map(_decode_pair, tf.data.AUTOTUNE)


def _pair_dataset(pairs, patches):
    """Dataset of (blurry, sharp) of sound pairs; see `paired_folder`."""
    if patches is None:
        dataset = decoded_pairs(pairs).batch(1)
    else:
        dataset = random_patches(
            _path_tensor(pairs), _decode_pair, patches, crops_per_image=1
        ).map(lambda both, seeds: both)
    dataset = dataset.map(lambda both: (to_unit(both[..., :3]), to_unit(both[..., 3:])))
    return dataset.prefetch(tf.data.AUTOTUNE)


def _path_tensor(pairs):
    return tf.constant([[str(blurry), str(sharp)] for blurry, sharp in pairs])


def _files_by_name(folder, name_of):
    """Lists of the files of equal names below the folder."""
    files = {}
    for path in list_images(folder):
        files.setdefault(name_of(path.relative_to(folder)), []).append(path)
    return files


def _pair_problem(pair, patch_size):
    """The fault of a pair of files, with the name of the file, or None."""
    for path in pair:
        problem = _problem(path, patch_size)
        if problem:
            return problem
    sizes, orientations = [], []
    for path in pair:
        with Image.open(path) as image:
            sizes.append("{}x{}".format(*image.size))
            orientations.append(image.getexif().get(_ORIENTATION_TAG, 1))
    if sizes[0] != sizes[1]:
        return f"{pair[0]}: sizes differ, {sizes[0]} and {sizes[1]}"
    # Both are read as stored; unequal tags say that one of them was turned.
    if orientations[0] != orientations[1]:
        return "{}: EXIF orientations differ, {} and {}".format(pair[0], *orientations)
    return None


def _sound(problems, skip_broken, what):
    """Entries without problem; raises, naming the others, unless to be skipped."""
    broken = {entry: problem for entry, problem in problems.items() if problem}
    sound = [entry for entry in problems if entry not in broken]
    if broken and not (skip_broken and sound):
        lines = [f"  {problem}" for problem in broken.values()]
        more = [f"  and {len(lines) - 20} more"] if len(lines) > 20 else []
        raise ValueError(
            f"{len(broken)} of {len(problems)} {what} cannot be used "
            "(`skip_broken=True` leaves them out):\n" + "\n".join(lines[:20] + more)
        )
    return sound


def _problem(path, min_size):
    """The fault of an image file, with its name, or None.

    Only files that look truncated are decoded to find out, and BMP.
    """
    try:
        with Image.open(path) as image:
            size, kind, mode = image.size, image.format, image.mode
            if kind == "PNG":
                image.verify()  # checksums
        if kind not in _FORMATS:
            return f"{path}: a {kind} file; PNG, JPEG and BMP are read"
        if kind == "BMP" and mode == "P":  # TensorFlow takes its indices for levels
            return f"{path}: a BMP file with a palette; save it as PNG"
        if kind == "BMP" or kind != "PNG" and not _ends_as_jpeg(path):
            _decode(str(path))
    except tf.errors.InvalidArgumentError:
        return f"{path}: a truncated {kind} file, or of a kind that cannot be decoded"
    except Exception as error:  # Pillow raises many kinds
        return f"{path}: not a readable image ({error})"
    if min_size is not None and min(size) < min_size:
        width, height = size
        return f"{path}: {width}x{height} is less than the {min_size} pixels needed"
    return None


def _ends_as_jpeg(path):
    """True for a file that ends with the end marker; sound ones may have a tail."""
    with open(path, "rb") as file:
        file.seek(-2, 2)
        return file.read() == b"\xff\xd9"


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


def _decode_pair(paths):
    """Two files to uint8 (H, W, 6): one array, so that both are cropped alike."""
    return tf.concat([_decode(paths[0]), _decode(paths[1])], axis=-1)
