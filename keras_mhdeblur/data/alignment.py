"""Alignment of a restored image with its label, as RealBlur is scored."""

import numpy as np


def align_for_scoring(
    restored: np.ndarray, sharp: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Moves a restored image onto its label, as RealBlur's official evaluation does.

    The two cameras of RealBlur are aligned only to about a pixel, so its authors (Rim
    et al., ECCV 2020) first match the brightness by one factor and the geometry by the
    homography that maximizes the enhanced correlation coefficient (ECC), and then score
    the pixels that the warped image covers:
    `psnr = -10 * log10(np.mean((aligned - sharp)[mask] ** 2))`.

    Needs OpenCV: `pip install keras-mhdeblur[realblur]`. The official code asks for
    OpenCV 4.2.0; other versions may differ in the last digits.

    Args:
        restored: (H, W, 3) float in [0, 1], RGB.
        sharp: (H, W, 3) float in [0, 1], RGB.

    Returns:
        `aligned`, (H, W, 3) float32, not clipped; `mask`, (H, W) bool, where it is
        valid.

    Raises:
        ImportError: OpenCV is not installed.
        ValueError: the shapes differ, or the images have too little in common to be
            aligned.
    """
    cv2 = import_opencv()
    restored, sharp = (np.asarray(x, "float32") for x in (restored, sharp))
    if restored.shape != sharp.shape or sharp.ndim != 3 or sharp.shape[-1] != 3:
        raise ValueError(
            "`restored` and `sharp` must both have shape (H, W, 3). "
            f"Received: restored={restored.shape}, sharp={sharp.shape}"
        )
    energy = np.sum(restored * restored, dtype="float64")
    factor = np.sum(sharp * restored, dtype="float64") / max(energy, 1e-12)
    matched = np.float32(factor) * restored
    grays = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (sharp, matched)]
    # 100 iterations, whatever they gain.
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 0)
    try:
        _, homography = cv2.findTransformECC(
            *grays, np.eye(3, dtype="float32"), cv2.MOTION_HOMOGRAPHY, criteria, None, 5
        )
    except cv2.error as error:
        raise ValueError(
            f"The images cannot be aligned ({error.err}). "
            f"Received: restored={restored.shape}, sharp={sharp.shape}"
        ) from None
    size = sharp.shape[1::-1]
    aligned = cv2.warpPerspective(
        matched,
        homography,
        size,
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT,
    )
    mask = cv2.warpPerspective(
        np.ones(sharp.shape[:2], "float32"),
        homography,
        size,
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    return aligned, mask > 0


def import_opencv():
    """The module cv2, or an ImportError that says how to install it."""
    try:
        import cv2
    except ImportError:
        raise ImportError(
            "The alignment needs OpenCV: pip install keras-mhdeblur[realblur]"
        ) from None
    return cv2
