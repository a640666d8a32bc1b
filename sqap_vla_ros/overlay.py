"""Overlays on camera images: the visual tokens a policy kept, coloured by criterion."""

from collections.abc import Mapping

import cv2
import numpy as np

from sqap_vla_ros.camera import PinholeCamera
from sqap_vla_ros.policy import Criterion, TokenSelection

COLOURS = {
    Criterion.ATTENTION: (255, 140, 0),
    Criterion.ROBOT: (60, 220, 60),
    Criterion.SPATIAL: (70, 150, 255),
    Criterion.RANDOM: (200, 90, 220),
    Criterion.FEATURE: (80, 230, 230),
    Criterion.DIFFERENCE: (250, 220, 60),
}
"""RGB colour of the frame around a kept token."""


def draw_overlays(
    images: Mapping[str, np.ndarray],
    selection: TokenSelection | None,
    cameras: Mapping[str, PinholeCamera],
    end_effector_m: np.ndarray | None = None,
) -> np.ndarray:
    """
    Draw the overlays of all cameras side by side, scaled to the height of the first.

    Args:
        images: camera name to uint8 [H, W, 3], RGB, in the order of the policy's cameras.
        selection: tokens of all cameras; None: every token was kept.
        cameras: those whose pose is known, by name.
        end_effector_m: [3], base frame, metres; None: not drawn.

    Returns:
        uint8 [H, sum of widths, 3], RGB, a new image.
    """
    pictures = [
        draw_overlay(image, selection, cameras.get(name), end_effector_m, number)
        for number, (name, image) in enumerate(images.items())
    ]
    height = pictures[0].shape[0]
    return np.hstack(
        [
            pictures[0],
            *(
                cv2.resize(
                    picture, (max(round(picture.shape[1] * height / picture.shape[0]), 1), height)
                )
                for picture in pictures[1:]
            ),
        ]
    )


def draw_overlay(
    image: np.ndarray,
    selection: TokenSelection | None,
    camera: PinholeCamera | None = None,
    end_effector_m: np.ndarray | None = None,
    number: int = 0,
) -> np.ndarray:
    """
    Darken the pruned patches, frame the kept ones, and mark the projected end effector.

    Where no patch shows the image, because preprocessing crops it, it is dark too. A kept patch
    that shows nothing of the image, in a bar of a letterbox, is not drawn.

    Args:
        image: uint8 [H, W, 3], RGB.
        selection: tokens of all cameras; None: every token was kept.
        camera: its intrinsics and pose; None: the end effector is not drawn.
        end_effector_m: [3], base frame, metres; None: not drawn.
        number: index of the image's camera among the policy's cameras.

    Returns:
        uint8 [H, W, 3], RGB, a new image.
    """
    picture = image.copy()
    if selection is not None:
        picture = _draw_tokens(picture, selection, number)
    if camera is not None and end_effector_m is not None:
        pixel = camera.project(end_effector_m)
        if pixel is not None:
            centre = (
                round(pixel[0] * image.shape[1] / camera.width),
                round(pixel[1] * image.shape[0] / camera.height),
            )
            cv2.drawMarker(picture, centre, (255, 255, 255), cv2.MARKER_CROSS, 11, 1, cv2.LINE_AA)
    return picture


def _draw_tokens(image: np.ndarray, selection: TokenSelection, number: int) -> np.ndarray:
    rows, columns = selection.grid
    own = selection.kept // (rows * columns) == number
    kept, criteria = selection.kept[own] % (rows * columns), selection.criterion[own]
    height, width = image.shape[:2]
    places = np.rint(selection.geometry.rectangles(selection.grid, width, height)).astype(int)
    picture: np.ndarray = (image * 0.25).astype(np.uint8)
    for left, top, right, bottom in places[kept]:
        picture[top:bottom, left:right] = image[top:bottom, left:right]
    for (left, top, right, bottom), criterion in zip(places[kept].tolist(), criteria):
        if right > left and bottom > top:
            corner = max(right - 2, left), max(bottom - 2, top)
            cv2.rectangle(picture, (left, top), corner, COLOURS[Criterion(criterion)], 1)
    return picture
