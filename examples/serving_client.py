"""Restores a photo with a model that TensorFlow Serving serves.

python examples/serving_client.py photo.jpg restored.png

Needs the standard library only.
"""

import argparse
import base64
import http.client
import json
import struct
import sys
import urllib.error
import urllib.request
import zlib
from pathlib import Path

URL = "http://localhost:8501/v1/models/mhdeblur"
PNG_HEADER_BYTES = 33
TIMEOUT_SECONDS = 600


class ServingError(Exception):
    """No restored photo came back; the message says why."""


def main():
    parser = argparse.ArgumentParser(
        description="Restores a photo with a model that TensorFlow Serving serves."
    )
    parser.add_argument("photo", type=Path, help="JPEG or PNG file")
    parser.add_argument("output", type=Path, help="PNG file to write")
    parser.add_argument(
        "--url",
        default=URL,
        help="address of the model, or of a version of it (default: %(default)s)",
    )
    options = parser.parse_args()
    try:
        photo = options.photo.read_bytes()
        png = restore(options.url, photo)
        options.output.write_bytes(with_exif(png, exif_of_jpeg(photo)))
    except ServingError as error:
        sys.exit(f"{options.photo}: {error}")
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}")


def restore(url, photo):
    """Sends a photo to the server.

    Args:
        url: address of the model.
        photo: bytes of an image file.

    Returns:
        Bytes of a PNG file.

    Raises:
        ServingError: if the server is not reached, or refuses the photo.
    """
    instances = [{"b64": base64.b64encode(photo).decode()}]
    body = {"signature_name": "serving_bytes", "instances": instances}
    try:
        request = urllib.request.Request(
            f"{url}:predict",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            answer = response.read()
    except urllib.error.HTTPError as error:
        raise ServingError(
            f"the server answers {error.code}: {error_message(error.read())}"
        ) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise ServingError(f"no REST server at {url} ({reason})") from None
    try:
        (prediction,) = json.loads(answer)["predictions"]
        return base64.b64decode(prediction["b64"])
    except (ValueError, KeyError, TypeError):
        raise ServingError(f"{url} is no model of mhdeblur: {answer[:80]!r}") from None


def error_message(answer):
    """The first line of what TensorFlow Serving says in an answer that is an error."""
    try:
        return json.loads(answer)["error"].strip().splitlines()[0]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return repr(answer[:80])


def exif_of_jpeg(data):
    """The EXIF block of a JPEG file, which has its orientation, or None."""
    position = 2 if data.startswith(b"\xff\xd8") else len(data)
    # Up to the compressed data, segments follow each other: marker, length, contents.
    while position + 4 <= len(data):
        marker, length = struct.unpack_from(">HH", data, position)
        segment = data[position + 4 : position + 2 + length]
        if marker == 0xFFE1 and segment.startswith(b"Exif\0\0"):
            return segment.removeprefix(b"Exif\0\0")
        if not 0xFFC0 <= marker < 0xFFFF or marker == 0xFFDA:
            break
        position += 2 + length
    return None


def with_exif(png, exif):
    """A PNG file with an EXIF block behind its header."""
    if exif is None:
        return png
    chunk = b"eXIf" + exif
    chunk = struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png[:PNG_HEADER_BYTES] + chunk + png[PNG_HEADER_BYTES:]


if __name__ == "__main__":
    main()
