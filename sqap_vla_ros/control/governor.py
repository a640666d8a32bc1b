"""Token budget of each inference, lowered so that answers arrive in time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class GovernorConfig:
    """When to lower and raise the budget. Raises ValueError naming the field that is wrong."""

    levels: tuple[float, ...] = (1.0, 0.8, 0.6, 0.4)
    """Shares of the recipe's token budget, descending; the first is used while there is time."""
    lower_at: float = 0.8
    """Share of the time limit above which an inference counts as slow."""
    lower_after: int = 2
    """Consecutive slow inferences that lower the budget; one beyond the limit is enough."""
    raise_at: float = 0.5
    """Share of the time limit below which an inference counts as quick."""
    raise_after: int = 10
    """Consecutive quick inferences that raise the budget."""
    patience: int = 8
    """Maximum factor by which `raise_after` grows while each raise has to be taken back."""

    def __post_init__(self) -> None:
        falling = all(a > b for a, b in zip(self.levels, self.levels[1:]))
        if not self.levels or not falling or not 0 < self.levels[-1] <= self.levels[0] <= 1:
            raise ValueError(f'levels are {self.levels}, expected falling shares in (0, 1]')
        if not 0 < self.raise_at < self.lower_at <= 1:
            raise ValueError(
                f'raise_at is {self.raise_at} and lower_at {self.lower_at}, expected '
                '0 < raise_at < lower_at <= 1'
            )
        for name in ('lower_after', 'raise_after', 'patience'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} is {getattr(self, name)}, expected 1 or more')


class TokenGovernor:
    """
    Lowers the token budget before deadlines are missed and raises it again with hysteresis.

    Fine motion always gets the full budget: there, fewer tokens cost more than a late answer,
    which merely slows the arm down. Not thread-safe.

    Args:
        config: Levels and thresholds.
    """

    def __init__(self, config: GovernorConfig = GovernorConfig()) -> None:
        self.config = config
        self.level = 0
        """Index into `config.levels`."""
        self._slow = self._quick = 0
        self._raise_after = config.raise_after
        self._since_raise: int | None = None

    def share(self, fine: bool) -> float:
        """
        Choose the budget of the next inference.

        Args:
            fine: Whether the motion is fine.

        Returns:
            Share of the recipe's budget, in (0, 1].
        """
        return self.config.levels[0 if fine else self.level]

    def answered(self, share: float, latency_s: float, limit_s: float) -> None:
        """
        Update the level with the latency of an inference.

        Args:
            share: The share that the inference was given.
            latency_s: How long it took, seconds.
            limit_s: How long it may take, seconds.
        """
        config = self.config
        if share != config.levels[self.level]:
            return  # from another level or fine motion: says nothing about this level
        if self._since_raise is not None:
            self._since_raise += 1
            if self._since_raise > 2 * config.raise_after:  # the raise was right
                self._since_raise, self._raise_after = None, config.raise_after
        self._slow = self._slow + 1 if latency_s > config.lower_at * limit_s else 0
        self._quick = self._quick + 1 if latency_s < config.raise_at * limit_s else 0
        if latency_s > limit_s or self._slow >= config.lower_after:
            self._change(1)
        elif self._quick >= self._raise_after:
            self._change(-1)

    def _change(self, by: int) -> None:
        level = min(max(self.level + by, 0), len(self.config.levels) - 1)
        self._slow = self._quick = 0
        if level == self.level:
            return
        self.level = level
        if by < 0:
            self._since_raise = 0
        elif self._since_raise is not None:  # the last raise was wrong
            self._raise_after = min(
                2 * self._raise_after, self.config.patience * self.config.raise_after
            )
            self._since_raise = None
