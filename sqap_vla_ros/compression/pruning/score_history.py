"""
Relevance scores from earlier control steps.

The layers behind the pruning layer attend to what the task needs more reliably than the layer
that prunes, but their attention comes too late for the same inference. Neighbouring frames are
alike, so it serves for the next one (VLA-Pruner, arXiv 2511.16449, uses the attention of the
action decoder in this way). The history must not outlive its scene: it is reset when the task
changes or the camera view jumps.
"""

import numpy as np
import torch


class ScoreHistory:
    """Exponentially smoothed scores of the visual tokens; a step may score only some of them."""

    def __init__(self, decay: float) -> None:
        """
        Start without scores.

        Args:
            decay: weight of the past, 0 (none) to below 1.
        """
        self.decay = decay
        self.scores: torch.Tensor | None = None
        """float32 [V]; None: no step yet."""

    def reset(self) -> None:
        """Forget all scores."""
        self.scores = None

    def add(self, scores: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """
        Add the scores of one step.

        Attention is a share: with fewer tokens, each gets more of it. The scores of a pruned step
        are therefore scaled to the sum that the history has for the kept tokens. Pruned tokens
        keep their scores, and return once enough of the kept tokens fall below them.

        Args:
            scores: [V], or [K] if only the K kept tokens were scored.
            kept: int64 [K], the kept tokens; None: all V.

        Returns:
            The smoothed scores, [V].

        Raises:
            ValueError: the first scores are not those of all tokens.
        """
        if kept is None:
            self.scores = (
                scores if self.scores is None else torch.lerp(scores, self.scores, self.decay)
            )
            return self.scores
        if self.scores is None:
            raise ValueError('the first scores must be those of all tokens')
        known = self.scores[kept]
        scaled = scores * (known.sum() / scores.sum().clamp_min(1e-12))
        self.scores = self.scores.scatter(0, kept, torch.lerp(scaled, known, self.decay))
        return self.scores


class SceneWatch:
    """Detects when scores from earlier images no longer hold."""

    _BLOCKS = 8
    # Mean change of block brightness between neighbouring frames. An arm that crosses the whole
    # image changes a few blocks; another scene or view changes most.
    _CUT = 32.0

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the last image and instruction."""
        self._last: tuple[str, np.ndarray] | None = None

    def changed(self, image: np.ndarray, instruction: str) -> bool:
        """
        Whether the instruction or the view differs from the last call; False on the first.

        Args:
            image: uint8 [H, W, 3], RGB.
            instruction: the task in words.
        """
        now = instruction, _block_means(image, self._BLOCKS)
        before, self._last = self._last, now
        return before is not None and (
            before[0] != instruction or bool(np.abs(before[1] - now[1]).mean() > self._CUT)
        )


def _block_means(image: np.ndarray, blocks: int) -> np.ndarray:
    """Mean green of blocks x blocks parts of an image; green is most of its brightness."""
    edges = [np.linspace(0, n, blocks + 1).astype(int)[:-1] for n in image.shape[:2]]
    heights, widths = (np.diff(np.append(e, n)) for e, n in zip(edges, image.shape))
    green = image[..., 1].astype(np.float32)
    sums = np.add.reduceat(np.add.reduceat(green, edges[0], 0), edges[1], 1)
    means: np.ndarray = sums / np.outer(heights, widths)
    return means
