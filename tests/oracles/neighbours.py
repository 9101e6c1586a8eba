"""Item-item matrices, and what a session sums of them, from the equations, in float64 and by loops."""

import numpy as np


def together(sessions: list[list[int]], items: int, l2: float) -> np.ndarray:
    """EASE: B = I - P diag(P)^-1, with P = (X'X + l2 I)^-1."""
    held = np.zeros((len(sessions), items))
    for row, session in enumerate(sessions):
        for item in session:
            held[row, item] = 1
    inverse = np.linalg.inv(held.T @ held + l2 * np.eye(items))
    return np.eye(items) - inverse / np.diag(inverse)[None]


def following(sessions: list[list[int]], items: int, l2: float, decay: float) -> np.ndarray:
    """SLIT: (S'S + l2 I)^-1 S'T over all prefixes that something follows."""
    known, coming = [], []
    for session in sessions:
        for end in range(1, len(session)):
            before, after = np.zeros(items), np.zeros(items)
            for age, item in enumerate(reversed(session[:end])):
                before[item] += decay**age
            for distance, item in enumerate(session[end:]):
                after[item] += decay**distance
            known.append(before)
            coming.append(after)
    left, right = np.array(known), np.array(coming)
    return np.linalg.solve(left.T @ left + l2 * np.eye(items), left.T @ right)


def scores(matrix: np.ndarray, session: list[int], decay: float) -> np.ndarray:
    """The sum of the rows of a session's items, each times decay^age; one that is there twice counts once."""
    total, seen = np.zeros(matrix.shape[1]), set()
    for age, item in enumerate(reversed(session)):
        if item not in seen:
            total += decay**age * matrix[item]
            seen.add(item)
    return total
