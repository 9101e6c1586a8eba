"""NARM by its equations, one prefix and one state at a time, in float64."""

from collections.abc import Mapping
from typing import Any

import numpy as np

Params = Mapping[str, Any]


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Of each."""
    return 1 / (1 + np.exp(-values))


def states_of(gru: Params, inputs: np.ndarray) -> np.ndarray:
    """float64 [item, state]: the states behind each item of one session."""
    of_input, of_state = np.asarray(gru["input_gates"]["kernel"]), np.asarray(gru["hidden_gates"])
    state, states = np.zeros(len(of_state)), []
    for given in inputs:
        reset_x, update_x, new_x = np.split(given @ of_input, 3)
        reset_h, update_h, new_h = np.split(state @ of_state, 3)
        update, new = sigmoid(update_x + update_h), np.tanh(new_x + sigmoid(reset_x + reset_h) * new_h)
        state = (1 - update) * new + update * state
        states.append(state)
    return np.array(states)


def session_vector(params: Params, session: list[int]) -> np.ndarray:
    """float64 [dim]: q of one prefix, of parameters in float64."""
    encoder, states = params["encoder"], states_of(params["encoder"]["gru"], params["items"]["table"][session])
    attention, context = encoder["attention"], np.zeros(states.shape[1])
    for state in states:
        gate = sigmoid(state @ attention["each"]["kernel"] + states[-1] @ attention["last"]["kernel"])
        context += (gate @ attention["weight"]).item() * state
    return np.concatenate([context, states[-1]]) @ encoder["output"]["kernel"]
