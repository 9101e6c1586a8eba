"""A start from another run's parameters."""

from alterrec_jax.contract import Context, Params, System
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.features import catalogue_info, context_shapes
from alterrec_jax.errors import UserError
from alterrec_jax.models.registry import read_run_config
from alterrec_jax.training.checkpoint import read_newest
from alterrec_jax.training.steps import param_shapes


def params_of_run(workdir: str, system: System, context: Context, dataset: Dataset) -> dict[str, Params]:
    """The best parameters of a run, of the networks that have the same names here.

    Args:
      workdir: of the run.
      system, context: what is to start from it.
      dataset: what it is to train on; the run must have been trained on it too.

    Raises:
      UserError: there is no such run, it was trained on other data, or its networks have other names or shapes.
    """
    meta = read_newest(workdir).meta
    if meta["dataset"]["fingerprint"] != dataset.fingerprint:
        raise UserError(f"start_from={workdir} was trained on another dataset ({meta['dataset']['path']})")
    config = read_run_config(meta["config"], f"the configuration in {workdir}")
    there = config.build(catalogue_info(dataset))
    its_context = context_shapes(dataset, there.reads, config.precision)
    shapes = {name: param_shapes(network, its_context) for name, network in there.networks.items()}
    shared = [name for name in system.networks if name in there.networks]
    if not shared:
        names = ", ".join(there.networks), ", ".join(system.networks)
        raise UserError(
            f"start_from={workdir} has the networks {names[0]}, this run {names[1]}: none has the same name"
        )
    for name in shared:
        if shapes[name] != param_shapes(system.networks[name], context):
            raise UserError(f"start_from={workdir}: its network {name} has other shapes; use the same settings")
    params = read_newest(workdir, shapes).best
    return {name: params[name] for name in shared}
