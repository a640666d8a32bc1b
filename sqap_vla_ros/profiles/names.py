"""What names of frames, topics, joints and cameras may look like."""

from collections.abc import Callable
import re
from typing import TypeAlias

NameCheck: TypeAlias = Callable[[str], str | None]
"""Returns what is wrong with a name; None for a good one."""
LONGEST_NAME = 100
LONGEST_TOPIC = 150
"""ROS 2 allows about 245 for a name with its namespace and what an action adds."""
_RECTIFIED = 'image_rect'
"""How the names of undistorted images begin: image_rect, image_rect_color."""
_TOPIC = re.compile(r'(~/|/)?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*')


def plain_name(text: str) -> str | None:
    """Check the name of a joint, a camera or an action column: short, and no white space."""
    if re.search(r'\s', text):
        return 'a name has no spaces'
    if not text.isprintable():
        return 'a name has no control characters'
    if len(text) > LONGEST_NAME:
        return f'a name has at most {LONGEST_NAME} characters'
    return None


def title(text: str) -> str | None:
    """Check words that are shown to people."""
    if text.isprintable() and len(text) <= LONGEST_NAME:
        return None
    return f'expected one line of at most {LONGEST_NAME} characters'


def frame_name(text: str) -> str | None:
    """Check the name of a TF frame: no white space, no leading slash."""
    if text.startswith('/'):
        return f'a frame has no leading slash; write {text.lstrip("/")}'
    return plain_name(text)


def is_rectified(topic: str) -> bool:
    """Tell whether a topic is named as image_proc names undistorted images."""
    return any(part.startswith(_RECTIFIED) for part in topic.split('/'))


def topic_name(text: str) -> str | None:
    """Check the name of a topic or an action against the rules of ROS 2."""
    if len(text) > LONGEST_TOPIC:
        return f'a topic has at most {LONGEST_TOPIC} characters'
    if _TOPIC.fullmatch(text):
        return None
    return (
        'not a valid name in ROS 2: letters, digits, _ and single / between words that do not '
        'begin with a digit'
    )


def dry_run_topic(topic: str) -> str:
    """Name of the topic of the policy node that takes the place of another one in a dry run."""
    return '~/dry_run/' + topic.lstrip('~/')
