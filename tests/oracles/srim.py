"""SRIM from its equations: one prefix at a time, one pair of items at a time."""

import numpy as np


def session_vector(rows: np.ndarray, mapped: np.ndarray, heads: int, readout: str) -> np.ndarray:
    """float64 [dim], eqs. 7 and 8, of a prefix alone.

    Args:
      rows: float64 [item, dim], of the prefix.
      mapped: float64 [item, dim], its queries.
      heads: how many.
      readout: mean or last.
    """
    width = rows.shape[1] // heads
    found = np.zeros_like(rows)
    for head in range(heads):
        of_head = slice(head * width, (head + 1) * width)
        for t in range(len(rows)):
            weights = np.exp([mapped[t, of_head] @ row[of_head] / width**0.5 for row in rows])
            found[t, of_head] = sum(w * row[of_head] for w, row in zip(weights, rows, strict=True)) / weights.sum()
    vector: np.ndarray = found.mean(axis=0) if readout == "mean" else found[-1]
    return vector


def sim(left: np.ndarray, right: np.ndarray) -> float:
    """The cosine."""
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


def alignment(maps: list[np.ndarray], q_id: np.ndarray, q_mo: np.ndarray, p_id: np.ndarray, p_mo: np.ndarray) -> float:
    """Eq. 11, of one prefix; `maps` are W_1 to W_6, float64 [dim, dim], which stand on the left."""
    w1, w2, w3, w4, w5, w6 = maps
    within_id, within_mo = sim(w1 @ p_id, w2 @ q_id), sim(w5 @ p_mo, w6 @ q_mo)
    across = sim(w3 @ p_id, w4 @ p_mo)
    of_id = np.log(1 + np.exp(across) / (1 + np.exp(within_id)))
    of_mo = np.log(1 + np.exp(across) / (1 + np.exp(within_mo)))
    both = np.log(1 + (np.exp(within_id) + np.exp(within_mo)) / (1 + np.exp(across)))
    return float(of_id + of_mo + both)


def joint_inference(
    q_id: np.ndarray, q_mo: np.ndarray, target_id: np.ndarray, target_mo: np.ndarray, met: bool
) -> float:
    """Eq. 13, of one prefix."""
    of_id, of_mo = sim(q_id, target_id), sim(q_mo, target_mo)
    total = np.log(np.exp(of_id) + np.exp(of_mo))
    loss = (total - of_id) + 0.5 * (total - of_mo) if met else (total - of_mo) + 0.5 * (total - of_id)
    return float(loss)
