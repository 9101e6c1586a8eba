"""Session-based recommendation in JAX: AlterRec and other systems on one contract, one protocol, one trainer.

`import alterrec_jax as ar` offers the names below; each is imported when it is first asked for (docs/api.md).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alterrec_jax.api import load, load_config, prepare, train
    from alterrec_jax.data.dataset import Dataset, load_dataset
    from alterrec_jax.errors import UserError
    from alterrec_jax.models.registry import list_models
    from alterrec_jax.run import Evaluation, Run

__version__ = "0.1.0"

__all__ = [
    "Dataset",
    "Evaluation",
    "Run",
    "UserError",
    "list_models",
    "load",
    "load_config",
    "load_dataset",
    "prepare",
    "train",
]

_ELSEWHERE = {
    "Dataset": "data.dataset",
    "Evaluation": "run",
    "Run": "run",
    "UserError": "errors",
    "list_models": "models.registry",
    "load_dataset": "data.dataset",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_ELSEWHERE.get(name, 'api')}"), name)


def __dir__() -> list[str]:
    return __all__
