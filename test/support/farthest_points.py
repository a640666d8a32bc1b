"""Farthest point sampling by its definition, to compare with."""

import numpy as np


def brute_force_farthest(places, chosen, count):
    """Farthest point sampling by its definition, over all pairs at each step."""
    chosen, order = list(chosen), []
    for _ in range(count):
        distance = [
            min((np.hypot(*(places[i] - places[j])) for j in chosen), default=np.inf)
            for i in range(len(places))
        ]
        distance = [-1 if i in chosen else d for i, d in enumerate(distance)]
        order.append(int(np.argmax(np.float32(distance))))
        chosen.append(order[-1])
    return order
