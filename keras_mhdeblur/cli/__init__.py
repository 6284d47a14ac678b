"""The command `mhdeblur`.

Only the standard library is imported here, so that the help and wrong arguments are
answered at once.
"""

import argparse
import os
import sys

from keras_mhdeblur.cli import (
    app,
    calibrate,
    convert,
    evaluate,
    export,
    figures,
    prepare,
    presets,
    publish,
    restore,
    synthesize,
    train,
)
from keras_mhdeblur.cli.common import UsageError, printable

# The answer to `mhdeblur` alone.
OVERVIEW = """\
mhdeblur deblurs photos and shows where several sharp answers differ.

Restore a photo, or a folder of photos:
  mhdeblur restore photo.jpg --output sharp.png

Train on your own sharp photos:
  mhdeblur train nafnet_mh_c --init nafnet_mh_c --data my_photos --output run

Export a model for phones, browsers and servers:
  mhdeblur export nafnet_mh_c --format litert --output deblur.tflite

Convert an official checkpoint:
  mhdeblur convert nafnet.pth --output my_nafnet

All commands: mhdeblur --help. Options of one: mhdeblur restore --help.
"""


def main(arguments=None):
    """Runs a command.

    Args:
        arguments: list of strings; those of the process by default.

    Returns:
        Exit code: 0 if all went well, 1 if a photo failed, 2 for wrong usage.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if "run" not in options:
        parser.exit(2, OVERVIEW)
    # TensorFlow reads it when it is imported: its notes on the machine are not for
    # this reader.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        return options.run(options)
    except UsageError as error:
        message = "\n".join(map(printable, str(error).split("\n")))
        print(f"mhdeblur: error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nmhdeblur: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) has gone.
        sys.stdout = open(os.devnull, "w")
        return 141


class _Parser(argparse.ArgumentParser):
    def parse_known_args(self, args=None, namespace=None):
        if self._subparsers is None:  # a command's
            for argument in args:
                if argument == "--":
                    break
                self._check_option(argument)
        return super().parse_known_args(args, namespace)

    def _check_option(self, argument):
        # argparse itself names a mistyped option only if none is missing.
        name = argument.split("=")[0]
        options = self._option_string_actions
        if name[:2] == "--" and " " not in argument:
            if not any(option.startswith(name) for option in options):
                from keras_mhdeblur.utils.spelling import did_you_mean

                hint = did_you_mean(name, options)
                self.error(f"unrecognized argument: {name}.{hint}")

    def error(self, message):
        # Arguments are file names, and those can hold anything.
        super().error(printable(message))


def _parser():
    parser = _Parser(
        prog="mhdeblur", description="Deblurs photos into several hypotheses."
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in (
        restore,
        app,
        train,
        evaluate,
        calibrate,
        figures,
        synthesize,
        prepare,
        convert,
        export,
        presets,
        publish,
    ):
        command.add_parser(commands)
    return parser
