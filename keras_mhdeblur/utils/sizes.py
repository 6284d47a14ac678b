"""Sizes in words."""


def megapixels(height: int, width: int) -> str:
    """The size of a photo, two digits of it or all before the point."""
    count = height * width / 1e6
    return f"{count:.0f} megapixels" if count >= 10 else f"{count:.2g} megapixels"
