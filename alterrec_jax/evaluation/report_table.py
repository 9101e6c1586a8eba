"""What `report.evaluate_split` returns, as a table: for the terminal, and to compute with."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from alterrec_jax.runtime.text_table import aligned


def format_table(result: Mapping[str, Any]) -> str:
    """The views, the baselines and the sweep of an `evaluate_split` as aligned text, with what was measured below."""
    protocol, blocks = result["protocol"], []
    views = {name: result[name] for name in protocol["views"]}
    blocks.append({**views, **result["baselines"]})
    if "sweep" in result:
        blocks.append({f"alpha {label}": metrics for label, metrics in result["sweep"].items()})
    columns, interval = _columns(result)
    level = f"{protocol['bootstrap']['level']:.0%}"
    main = next(iter(views))
    rows = [["", *columns, f"{interval}, {level} interval", f"{main} minus this", "p"]]
    for block in blocks:
        for name, row in block.items():
            tested = _tested(result["differences"].get(f"{main} - {name}", {}), interval)
            rows.append([name, *(f"{row[c]:.4f}" for c in columns), _range(row, interval), *tested])
    if all(not row[-3] for row in rows[1:]):
        rows = [row[:-3] for row in rows]
    table = f"{aligned(rows)}\n{_caption(protocol, interval)}"
    return f"{table}\n\n{_recommended_table(result)}" if "recommended" in result else table


def as_frame(result: Mapping[str, Any]) -> pl.DataFrame:
    """The views and baselines of an `evaluate_split`, one a row, the main view first.

    Returns:
      Columns name (str), the metrics (float64), and of hits at the largest k: low and high, its interval; difference,
      the main view's minus this one's; p, of the paired test (float64, null where there is none).
    """
    columns, interval = _columns(result)
    main = next(iter(result["protocol"]["views"]))
    rows = []
    for name, row in {**{view: result[view] for view in result["protocol"]["views"]}, **result["baselines"]}.items():
        low, high = row["intervals"][interval] if "intervals" in row else (None, None)
        difference = result["differences"].get(f"{main} - {name}", {})
        tested = (difference.get(interval), difference.get("p", {}).get(interval))
        rows.append((name, *(row[column] for column in columns), low, high, *tested))
    numbers = (*columns, "low", "high", "difference", "p")
    return pl.DataFrame(rows, {"name": pl.String, **dict.fromkeys(numbers, pl.Float64)}, orient="row")


def _columns(result: Mapping[str, Any]) -> tuple[list[str], str]:
    """The metrics, and the one of them whose intervals and differences are shown."""
    columns = [name for name in result[next(iter(result["protocol"]["views"]))] if name != "intervals"]
    return columns, next((name for name in reversed(columns) if name.startswith("hits@")), columns[-1])


def _recommended_table(result: Mapping[str, Any]) -> str:
    """What is recommended, as aligned text."""
    of = result["recommended"]
    columns = list(next(iter(of.values())))
    rows = [["", *columns], *([name, *(f"{row[c]:.4f}" for c in columns)] for name, row in of.items())]
    tail = " and ".join(result["protocol"]["long_tail"])
    return (
        f"{aligned(rows)}\nof what is recommended, right or wrong, to k items: coverage, the share of the catalogue in "
        "it; novelty, the mean of -log2 of an item's share in training, in bits; long_tail, the share of items with "
        f"{tail} occurrences in training"
    )


def _tested(difference: Mapping[str, Any], metric: str) -> list[str]:
    """A difference and its p-value, or nothing where no test was made."""
    if metric not in difference.get("p", {}):
        return ["", ""]
    p = difference["p"][metric]
    return [f"{difference[metric]:+.4f}", "<0.001" if p < 0.001 else f"{p:.3f}"]


def _range(row: Mapping[str, Any], metric: str) -> str:
    return "[{:.4f}, {:.4f}]".format(*row["intervals"][metric]) if "intervals" in row else ""


def _caption(protocol: Mapping[str, Any], metric: str) -> str:
    # Under leave-one-out every session has one target, whatever the rule.
    several = protocol["targets"] == "all_prefixes" and protocol["n_targets"] > protocol["n_sessions"]
    which = "every item after the first" if several else "the last item"
    seen = "no candidates" if protocol["exclude_session_items"] else "candidates too"
    return (
        f"{protocol['split']}: {protocol['n_targets']:,} targets ({which} of {protocol['n_sessions']:,} sessions), "
        f"{protocol['n_targets_outside_catalogue']:,} of them outside the catalogue (misses); all "
        f"{protocol['catalogue']:,} items of the catalogue are ranked, those of the session are {seen}; differences, "
        f"and p, are of {metric}, paired over sessions, p by Holm for all rows"
    )
