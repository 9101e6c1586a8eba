"""The slow, obvious twin of the sign-flip test: every sign of every session."""

import itertools

import numpy as np


def p_value(difference: np.ndarray, session: np.ndarray) -> float:
    """The share of all sign patterns under which the mean is at least as far from 0 as without them."""
    names = sorted(set(session.tolist()))
    found = abs(difference.mean())
    far = 0
    for signs in itertools.product([1, -1], repeat=len(names)):
        sign_of = dict(zip(names, signs, strict=True))
        flipped = [sign_of[name] * value for name, value in zip(session.tolist(), difference, strict=True)]
        far += abs(np.mean(flipped)) >= found - 1e-12
    return far / 2 ** len(names)
