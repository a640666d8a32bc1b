"""
What earlier control steps tell about the tokens of this one.

The attention of layers behind the pruning layer says better what the task needs than that of the
layer that prunes, but comes too late for the same inference. Neighbouring frames are alike, so it
serves for the next one (VLA-Pruner, arXiv 2511.16449, uses the action decoder's for this). The
history must not outlive its scene: it is forgotten when the task changes or the camera cuts.
"""

import numpy as np
import torch


class ScoreHistory:
    """Exponentially smoothed scores of the visual tokens, of which each step may see only some."""

    def __init__(self, decay: float) -> None:
        """Set what the past counts, 0 (nothing) to below 1."""
        self.decay = decay
        self.scores: torch.Tensor | None = None
        """float32 [V]; None: nothing seen yet."""

    def reset(self) -> None:
        """Forget everything."""
        self.scores = None

    def add(self, scores: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """
        Add the scores of one step; returns the smoothed ones, [V].

        scores: [V], or [kept] where only the tokens kept [kept] were seen. Attention is a share:
        with fewer tokens each gets more of it. The seen ones are therefore scaled to the sum that
        the history gives them, and the unseen keep theirs: they come back once enough of the
        seen fall below them.
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
    """Tells when what was learnt from earlier images no longer holds."""

    _BLOCKS = 8
    # Mean change of block brightness between neighbouring frames. An arm that crosses the whole
    # image changes a few blocks; another scene or view changes most.
    _CUT = 32.0

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the last image and instruction."""
        self._last = None

    def changed(self, image: np.ndarray, instruction: str) -> bool:
        """
        Whether instruction or view differ from those of the last call; False on the first.

        image: uint8 [H, W, 3].
        """
        now = instruction, _block_means(image, self._BLOCKS)
        before, self._last = self._last, now
        return before is not None and (
            before[0] != instruction or bool(np.abs(before[1] - now[1]).mean() > self._CUT)
        )


def _block_means(image, blocks):
    """Mean green of blocks x blocks parts of an image; green is most of its brightness."""
    edges = [np.linspace(0, n, blocks + 1).astype(int)[:-1] for n in image.shape[:2]]
    sizes = [np.diff(np.append(e, n)) for e, n in zip(edges, image.shape)]
    green = image[..., 1].astype(np.float32)
    sums = np.add.reduceat(np.add.reduceat(green, edges[0], 0), edges[1], 1)
    return sums / np.outer(*sizes)
