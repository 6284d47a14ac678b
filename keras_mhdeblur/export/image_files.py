"""Image files in and out of a graph, in TensorFlow's operators."""

import tensorflow as tf

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
BIT_DEPTH_POSITION = 24


def restore_file(restore, data):
    """A PNG file of what a function makes of an image file.

    Gray is kept, and so are 16 bits and the alpha of a PNG. The orientation, the
    colour profile and all other metadata are not read.

    Args:
        restore: function of a float32 image (H, W, 3) in [0, 1] to such an image.
        data: scalar string tensor, contents of a JPEG, PNG, BMP or GIF file.

    Returns:
        Scalar string tensor.

    Raises:
        InvalidArgumentError: by the graph, if the file cannot be decoded.
    """
    pixels, is_16_bits = _decode(data)
    channels = tf.shape(pixels)[-1]
    is_gray = channels <= 2
    colours = tf.where(is_gray, 1, 3)
    alpha = pixels[..., colours:]
    image = tf.cast(pixels[..., :colours], "float32") / 65535
    shape = tf.concat([tf.shape(image)[:2], [3]], axis=0)
    image = restore(tf.broadcast_to(image, shape))
    image = tf.cond(
        is_gray, lambda: tf.reduce_mean(image, axis=-1, keepdims=True), lambda: image
    )
    return tf.cond(
        is_16_bits,
        lambda: _encode(to_integer(image, "uint16"), alpha),
        lambda: _encode(to_integer(image, "uint8"), tf.cast(alpha // 257, "uint8")),
    )


def to_integer(image, dtype):
    """An image in [0, 1] as an integer type."""
    return tf.cast(tf.round(image * tf.as_dtype(dtype).max), dtype)


def _decode(data):
    """uint16 (H, W, C) of 1 to 4 channels, and whether the file has 16 bits."""

    def decode_png():
        pixels = tf.io.decode_png(data, dtype="uint16")
        # Not before it is known that this is a whole PNG.
        with tf.control_dependencies([pixels]):
            depth = tf.strings.substr(data, BIT_DEPTH_POSITION, 1)
        return pixels, depth == b"\x10"

    def decode_other():
        pixels = tf.cond(
            tf.io.is_jpeg(data),
            # As other decoders do it; TensorFlow's default is up to 13 levels off.
            lambda: tf.io.decode_jpeg(data, dct_method="INTEGER_ACCURATE"),
            # The fourth channel of a BMP is no alpha.
            lambda: tf.io.decode_image(data, expand_animations=False)[..., :3],
        )
        # As decode_png makes 16 bits of 8: 255 becomes 65535.
        return tf.cast(pixels, "uint16") * 257, False

    start = tf.strings.substr(data, 0, len(PNG_SIGNATURE))
    pixels, is_16_bits = tf.cond(start == PNG_SIGNATURE, decode_png, decode_other)
    return tf.ensure_shape(pixels, (None, None, None)), is_16_bits


def _encode(image, alpha):
    return tf.io.encode_png(tf.concat([image, alpha], axis=-1))
