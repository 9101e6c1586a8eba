"""Why a split has no session left, from what each step of a preparation counted."""

from collections.abc import Mapping

from alterrec_jax.data.dataset import SPLITS
from alterrec_jax.errors import UserError
from alterrec_jax.runtime.console import log
from data_tools.flat_sessions import FlatSessions
from data_tools.options import Options
from data_tools.tally import Tally


def require_sessions(parts: Mapping[str, FlatSessions], tally: Tally, options: Options) -> None:
    """Stops where a split has no session left, after showing the steps.

    Args:
      parts: the sessions of each split that are left.
      tally: of every step so far.
      options: with the defaults of the source.

    Raises:
      UserError: names the split, the cause and the remedy.
    """
    for split in SPLITS:
        if not len(parts[split]):
            log(tally.table())
            raise UserError(f"no {split} session is left: {_cause(split, tally, options)}")


def _cause(split: str, tally: Tally, options: Options) -> str:
    sessions = {line.step: line.sessions for line in tally.lines}
    before = sessions["before the split"]
    if not before:
        dropped = min((line for line in tally.lines if line.interactions < 0), key=lambda line: line.sessions)
        return (
            f"none of the {tally.lines[0].sessions:,} sessions that were read comes to the split. Most went by "
            f"'{dropped.step}' ({-dropped.sessions:,} sessions): is --session_column the one that groups the items of "
            "a visit or a user, and does --min_session_length fit?"
        )
    if not sessions[f"{split}: after the split"]:
        return _not_chosen(split, before, options)
    mine = [line for line in tally.lines if line.step.startswith(f"{split}: ") and line.sessions <= 0]
    lost_items = next((line for line in mine if ": item" in line.step), None)
    too_short = sum(-line.sessions for line in mine if ": session" in line.step)
    if lost_items and lost_items.interactions:
        remedy = f"lower --{'k_core' if options.k_core else 'min_item_count'}" + (
            ", or take --held_out_rare_items=keep" if split != "train" else ""
        )
        return (
            f"'{lost_items.step}' took {-lost_items.interactions:,} interactions out, and what was left of the "
            f"sessions was too short; {remedy}"
        )
    if options.split == "leave_one_out":
        return (
            f"all {before:,} sessions are so short that nothing to train on is left of them without the last two "
            "items, which leave_one_out takes for validation and test; give longer sessions, or choose --split=ratio"
        )
    return f"{too_short:,} of them are shorter than --min_session_length={options.min_session_length}; lower it"


def _not_chosen(split: str, sessions: int, options: Options) -> str:
    if options.split == "leave_one_out":
        return (
            f"none of {sessions:,} sessions has three items, of which leave_one_out takes one for validation and one "
            "for test; is --session_column right? If so, choose --split=ratio"
        )
    if options.split_column:
        return (
            f"column '{options.split_column}' says {split} of none of {sessions:,} sessions; mark some, or choose "
            "another --split"
        )
    shares = f"--validation_fraction={options.validation_fraction:g} and --test_fraction={options.test_fraction:g}"
    return f"{shares} of {sessions:,} sessions leave it none; change the shares, or give more sessions"
