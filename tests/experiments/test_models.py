"""The command that explains the systems: a table of all, and every field of one."""

import dataclasses
import re
import shlex

import pytest
from absl import flags
from ml_collections import config_flags

from alterrec_jax.config import flat, to_mapping
from alterrec_jax.config_files import overridable
from alterrec_jax.errors import UserError
from alterrec_jax.models.alterrec import AlterRecConfig
from alterrec_jax.models.registry import families, family, read_config
from experiments.models import Field, explained, fields_of, table

NAMES = list(families())


def test_the_table_has_a_line_for_each_family() -> None:
    head, *lines = table().splitlines()
    assert head.split()[:7] == ["name", "title", "paper", "kind", "layout", "fields", "needs"]
    cells = [re.split(r"\s{2,}", line) for line in lines]
    assert [row[0] for row in cells] == NAMES
    for name, title, paper, kind, layout, fields, needs in cells:
        one = family(name)
        assert (title, kind) == (one.title, one.kind)
        assert (paper, layout, needs) == (one.paper or "-", one.layout or "-", one.needs or "-")
        assert int(fields) == len([f for f in fields_of(one.config()) if ".NAME." not in f.name])


@pytest.mark.parametrize("name", NAMES)
def test_every_field_is_explained_and_its_default_can_be_given(name: str) -> None:
    config = family(name).config()
    fields = fields_of(config)
    own = [field.name for field in fields if ".NAME." not in field.name]
    assert own == [field for field in flat(to_mapping(config)) if field != "model"]
    assert all(field.help and field.may_be for field in fields), "a field without words"
    lines = explained(family(name)).splitlines()
    given = [shlex.split(line.split("  [")[0])[0] for line in lines if line.startswith("--") and ".NAME." not in line]
    values, arguments = flags.FlagValues(), ["command", *given]
    holder = config_flags.DEFINE_config_dict("config", overridable(config), flag_values=values, sys_argv=arguments)
    values(arguments)
    assert len(given) == len(own) and read_config(holder.value.to_dict()) == config


def test_what_a_field_may_be() -> None:
    of = {field.name: field for field in fields_of(family("core").config())}
    assert of["network.dim"] == Field(
        "network.dim", 100, "whole number, at least 1", "width d of item and session embeddings"
    )
    assert of["network.weights"].may_be == "transformer | mean"
    assert of["network.dropout"].may_be == "number, at least 0 and below 1"
    assert (of["keep_epochs"].may_be, of["start_from"].may_be) == ("True or False", "word")
    assert "--config.network.dim=100  [whole number, at least 1]\n    width d of item" in explained(family("core"))


def test_networks_are_listed_by_name_and_other_kinds_behind_them() -> None:
    fields = fields_of(AlterRecConfig())
    names = [field.name for field in fields]
    assert {"networks.id.dropout", "networks.text.mlp_hidden", "mining.beta_per"} <= set(names)
    of_neighbours = {"relation", "decay", "ridge", "neighbours", "dense_items", "support"}
    of_others = {f"networks.NAME.{name}" for name in {"kind", "attributes"} | of_neighbours}
    assert {name for name in names if ".NAME." in name} == of_others
    (attributes,) = (field for field in fields if field.name == "networks.NAME.attributes")
    assert attributes.may_be == "list of: category | brand"
    (hidden,) = (field for field in fields if field.name == "networks.text.mlp_hidden")
    assert hidden.may_be == "list of: whole number, at least 1"
    only = dataclasses.replace(AlterRecConfig(), networks={"own": AlterRecConfig().networks["id"]})
    assert {"networks.own.dim", "networks.NAME.feature"} <= {field.name for field in fields_of(only)}


def test_an_unknown_model_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match="no model is called 'cor3'; did you mean 'core'?"):
        family("cor3")
