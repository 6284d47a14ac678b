"""`mhdeblur synthesize`: pairs to train on, of videos or of sharp photos."""

import argparse
import sys
import time
from pathlib import Path

from keras_mhdeblur.cli.common import (
    UsageError,
    make_output_folder,
    one_line,
    positive,
    printable,
    quiet_import,
    whole_number,
)
from keras_mhdeblur.cli.photo_paths import find_photos, plan_outputs


def add_parser(commands):
    parser = commands.add_parser(
        "synthesize",
        help="make pairs of blurry and sharp images",
        description="Makes pairs of blurry and sharp images, FOLDER/blur/NAME.png and "
        "FOLDER/sharp/NAME.png. They are for `mhdeblur evaluate --pairs FOLDER/blur "
        "FOLDER/sharp`, and for `mhdeblur train RECIPE --data FOLDER` with a recipe "
        "whose data are a paired_folder.",
    )
    sources = parser.add_subparsers(title="sources", metavar="SOURCE", required=True)
    _add_frames_parser(sources)
    _add_photos_parser(sources)


def _add_frames_parser(sources):
    parser = sources.add_parser(
        "frames",
        help="from videos: averages of consecutive frames",
        description="Averages windows of consecutive frames in linear light, as the "
        "GoPro data set was made. The frame in the middle is the sharp image. The "
        "frames must be sharp, and the frame rate high. Videos need the extra "
        "keras-mhdeblur[video].",
    )
    add = parser.add_argument
    add(
        "inputs",
        nargs="+",
        metavar="VIDEO_OR_FOLDER",
        help="video, or folder with a video's frames as PNG, JPEG or BMP",
    )
    _add_output(add)
    add(
        "--frames",
        type=_number_or_range,
        default=(7, 13),
        metavar="N|MIN,MAX",
        help="frames per window, drawn at random from MIN to MAX (default: 7,13)",
    )
    add(
        "--stride",
        type=positive,
        metavar="N",
        help="frames from the start of a window to the start of the next (default: "
        "windows follow each other)",
    )
    add(
        "--gamma",
        type=_gamma,
        default=2.2,
        metavar="X|srgb",
        help="response of the camera: an exponent (1 averages pixel values) or srgb "
        "(default: %(default)s)",
    )
    add(
        "--keep-frames",
        action="store_true",
        help="also write every frame: FOLDER/frames/NAME/00.png, ...",
    )
    add("--max-pairs", type=positive, metavar="N", help="at most N pairs per video")
    _add_seed(add)
    parser.set_defaults(run=_synthesize_frames)


def _add_photos_parser(sources):
    parser = sources.add_parser(
        "photos",
        help="from sharp photos: blur of a simulated shaken camera",
        description="Blurs sharp photos as a shaken camera would. A training does not "
        "need these files: recipes with data synthesized_folder blur photos on the "
        "fly.",
    )
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="photo, or folder of photos")
    _add_output(add)
    add("--recursive", "-r", action="store_true", help="search folders' subfolders too")
    add(
        "--count",
        type=positive,
        default=1,
        metavar="N",
        help="pairs per photo (default: %(default)s)",
    )
    add(
        "--size",
        type=positive,
        metavar="N",
        help="side of square patches in pixels (default: the whole photo but for a "
        "border)",
    )
    add(
        "--max-megapixels",
        type=_positive_real,
        default=1.6,
        metavar="X",
        help="size to which larger photos are reduced (default: %(default)s)",
    )
    add(
        "--max-path",
        type=_real,
        default=24.0,
        metavar="X",
        help="length of the camera's longest path in pixels (default: %(default)s)",
    )
    add(
        "--max-noise",
        type=_real,
        default=0.01,
        metavar="X",
        help="deviation of the strongest noise, for pixels from 0 to 1 (default: "
        "%(default)s)",
    )
    add(
        "--jpeg-quality",
        type=_number_or_range,
        metavar="MIN,MAX",
        help="compress half of the blurry images as JPEG, with a quality from MIN to "
        "MAX",
    )
    _add_seed(add)
    parser.set_defaults(run=_synthesize_photos)


def _add_output(add):
    add("--output", "-o", required=True, metavar="FOLDER", help="folder to write to")


def _add_seed(add):
    add(
        "--seed",
        type=whole_number,
        default=0,
        metavar="N",
        help="the same number gives the same pairs (default: %(default)s)",
    )


def _number_or_range(text):
    numbers = [positive(part) for part in text.split(",")]
    if len(numbers) > 2 or numbers[0] > numbers[-1]:
        raise argparse.ArgumentTypeError(f"must be N or MIN,MAX, not {text!r}")
    return numbers[0], numbers[-1]


def _gamma(text):
    return text if text == "srgb" else _positive_real(text)


def _positive_real(text):
    number = _real(text)
    if number == 0:
        raise argparse.ArgumentTypeError(f"must be more than 0, not {text!r}")
    return number


def _real(text):
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number from 0, not {text!r}")
    return number


def _synthesize_frames(options):
    if options.frames[0] < 2:
        raise UsageError("--frames must be at least 2")
    sources = [Path(source) for source in dict.fromkeys(options.inputs)]

    def pairs_of(source, name, show):
        from keras_mhdeblur.data import pairs_from_frames

        return pairs_from_frames(
            source,
            options.output,
            options.frames,
            stride=options.stride,
            gamma=options.gamma,
            keep_frames=options.keep_frames,
            max_pairs=options.max_pairs,
            name=name,
            seed=options.seed,
            on_pair=lambda entry: show(f"frame {entry['frames'][-1]}"),
        )

    names = [Path(source.resolve().name) for source in sources]
    return _run(pairs_of, sources, names, [], options)


def _synthesize_photos(options):
    if options.jpeg_quality and options.jpeg_quality[1] > 100:
        raise UsageError("--jpeg-quality must be at most 100")
    photos, failures = find_photos(options.inputs, options.recursive)

    def pairs_of(source, name, show):
        from keras_mhdeblur.data import MotionBlur, pairs_from_photo

        return pairs_from_photo(
            source,
            options.output,
            options.count,
            size=options.size,
            max_megapixels=options.max_megapixels,
            blur=MotionBlur(
                options.max_path,
                max_noise=options.max_noise,
                jpeg_quality=options.jpeg_quality,
            ),
            name=name,
            seed=options.seed,
        )

    # Photos of subfolders lie flat in the output.
    names = [Path("_".join(name.parts)) for _, name in photos]
    return _run(pairs_of, [path for path, _ in photos], names, failures, options)


def _run(pairs_of, sources, names, failures, options):
    """Makes the pairs of all sources, and says what was done.

    Args:
        pairs_of: function of (source, name, show), where `show` takes a text.
        sources: paths.
        names: relative path of each, which its pairs are named after.
        failures: messages about inputs that gave no sources.
        options: of the command.

    Returns:
        Exit code.
    """
    for message in failures:
        print(f"mhdeblur: {message}", file=sys.stderr)
    if not sources:
        return 1
    output = Path(options.output)
    names = [str(name.with_suffix("")) for name in plan_outputs(names)]
    for name in names:
        if (output / "metadata" / f"{name}.json").exists():
            raise UsageError(
                f"--output {output} has pairs of {name} already; choose another "
                "folder, or remove this one"
            )
    make_output_folder(output)

    with quiet_import():
        from keras_mhdeblur.utils.progress import ProgressBar

    begin = time.monotonic()
    bar = ProgressBar(len(sources))
    failed, count = len(failures), 0
    for source, name in zip(sources, names):

        def show(text, name=name):
            bar.start(f"{printable(name)}: {text}")

        bar.start(printable(name))
        try:
            count += len(pairs_of(source, name, show)["pairs"])
        except ImportError as error:
            raise UsageError(str(error)) from None
        except Exception as error:
            failed += 1
            bar.message(f"mhdeblur: {printable(source)}: {one_line(error)}")
        bar.finish(printable(name))
    bar.close()
    seconds = time.monotonic() - begin
    inputs = len(sources) + len(failures)
    print(
        f"Wrote {count} pairs to {output} in {seconds:.1f} s"
        + (f"; {failed} of {inputs} inputs failed." if failed else "."),
        file=sys.stderr,
    )
    return 1 if failed else 0
