"""Several datasets as one, each a domain of it: what a system is pretrained on that reads the items of many shops.

A domain has the name of its folder. Its items, sessions and users are called NAME/ID, so that no two meet; its splits
join those of the others. What not every domain has is left out, and so are prices and images, whose scales and folders
are a shop's own.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from alterrec_jax.data import dataset_files
from alterrec_jax.data.catalogue import described, encoded_alike
from alterrec_jax.data.dataset import SPLITS, Dataset, load_dataset, write_dataset
from alterrec_jax.data.dataset_files import ALONE, TEXT
from alterrec_jax.data.features import ID_FEATURES
from alterrec_jax.errors import UserError
from alterrec_jax.runtime.console import log
from alterrec_jax.runtime.text_table import aligned
from data_tools import protocol

_COUNTED = ("interactions", "tied_interactions", "sessions_with_ties", "tied_pairs", "tied_pairs_ascending")
_COVERAGE = ("coverage", "catalogue_coverage")


class Domain(NamedTuple):
    """A dataset. Attributes: name, of its folder; dataset; sessions, its table as it lies there."""

    name: str
    dataset: Dataset
    sessions: pl.DataFrame


def join(folders: Sequence[str], out: str) -> str:
    """Writes the dataset folder `out` of several others.

    Args:
      folders: two or more dataset folders, in the order in which their items are numbered.
      out: the folder to write.

    Returns:
      What was joined, as text for a person.

    Raises:
      UserError: a folder is no dataset, two have one name, their texts were encoded otherwise, or `out` is one of them.
    """
    domains = _read(folders, out)
    _require_one_encoder(domains)
    numbers, order, catalogue_size = _numbers(domains)
    items = pl.concat(_items(domains))[order]
    timed = all(ALONE in domain.sessions.columns for domain in domains)
    sessions = pl.concat(_sessions(*one, timed) for one in zip(domains, numbers, strict=True))
    vectors = {
        name: np.concatenate([np.asarray(domain.dataset.vectors[name]) for domain in domains])[order]
        for name in _shared_vectors(domains)
    }
    provenance = _provenance(domains, items, sessions, [*vectors])
    write_dataset(
        out,
        items=items,
        sessions=sessions,
        text_vectors=vectors.pop(TEXT, None),
        catalogue_size=catalogue_size,
        provenance=provenance,
        vectors=vectors,
    )
    return _summary(domains, out)


def _read(folders: Sequence[str], out: str) -> list[Domain]:
    if len(folders) < 2:
        raise UserError("--data_dirs names fewer than two dataset folders; give them with commas between")
    paths, domains = [pathlib.Path(folder) for folder in folders], list[Domain]()
    for path in paths:
        name = path.resolve().name
        if path.resolve() == pathlib.Path(out).resolve():
            raise UserError(f"--out={out} is one of the folders that are joined; name another one")
        if name in [domain.name for domain in domains]:
            raise UserError(f"two folders of --data_dirs are called {name}; rename one, for items are called {name}/ID")
        domains.append(Domain(name, load_dataset(path), dataset_files.read_sessions(path)))
    return domains


def _require_one_encoder(domains: Sequence[Domain]) -> None:
    """Refuses domains whose texts were encoded otherwise.

    Raises:
      UserError: names both encoders.
    """
    encoded = [domain for domain in domains if TEXT in domain.dataset.vectors]
    for domain in encoded[1:]:
        there, here = (one.dataset.text_encoders.get(TEXT, {}) for one in (encoded[0], domain))
        if not encoded_alike(there, here):
            remedy = "prepare all with one --text_model and --text_fusion"
            if there.get("given") or here.get("given"):
                remedy = "bring vectors that one encoder made by --vectors=NAME=FILE.npy instead of --text_vectors"
            raise UserError(
                f"the text vectors of {encoded[0].name} are {described(there)}, those of {domain.name} "
                f"{described(here)}; {remedy}"
            )


def _shared_vectors(domains: Sequence[Domain]) -> list[str]:
    """The features whose vectors all have, made in one way as far as the manifests say."""

    def made_alike(one: Domain, other: Domain, name: str) -> bool:
        notes = [domain.dataset.manifest.get("vectors", {}).get(name, {}) for domain in (one, other)]
        rules = [{key: note[key] for key in note if key not in _COVERAGE} for note in notes]
        encoders = [domain.dataset.text_encoders.get(name, {}) for domain in (one, other)]
        return rules[0] == rules[1] and encoded_alike(*encoders)

    shared = []
    for name in sorted({name for domain in domains for name in domain.dataset.vectors}):
        everywhere = all(name in domain.dataset.vectors for domain in domains)
        if everywhere and all(made_alike(domain, domains[0], name) for domain in domains):
            shared.append(name)
        else:
            log(f"note: not all domains have {name} vectors that were made in one way; they are left out")
    return shared


def _numbers(domains: Sequence[Domain]) -> tuple[list[np.ndarray], np.ndarray, int]:
    """The new number of each domain's items, where each new item stands in all rows, and the size of the catalogue.

    The catalogues come first, in the order of the domains, and then what occurs in held-out sessions alone.
    """
    of_catalogue = np.concatenate(
        [np.arange(len(domain.dataset.items)) < domain.dataset.catalogue_size for domain in domains]
    )
    order = np.argsort(~of_catalogue, kind="stable")
    number = np.empty(len(order), np.int32)
    number[order] = np.arange(len(order), dtype=np.int32)
    borders = np.cumsum([len(domain.dataset.items) for domain in domains])[:-1]
    return np.split(number, borders), order, int(of_catalogue.sum())


def _items(domains: Sequence[Domain]) -> list[pl.DataFrame]:
    """The items of each, with the columns that all have."""
    shared = [name for name in ID_FEATURES if all(name in domain.dataset.items.columns for domain in domains)]
    return [domain.dataset.items.select(_called(domain, "item_id"), "name", "text", *shared) for domain in domains]


def _sessions(domain: Domain, number: np.ndarray, timed: bool) -> pl.DataFrame:
    """Its sessions, of the new numbers; `timed`, whether all domains know which times are equal."""
    lengths = domain.sessions["items"].list.len().to_numpy()
    flat = pl.DataFrame(
        {
            "row": np.repeat(np.arange(len(lengths)), lengths),
            "items": number[domain.sessions["items"].explode(empty_as_null=False).to_numpy()],
        }
    )
    lists = flat.group_by("row", maintain_order=True).agg("items")["items"]
    renamed = domain.sessions.with_columns(_called(domain, "session_id"), _called(domain, "user_id"), lists)
    return renamed.select(*dataset_files.SESSION_COLUMNS, *((ALONE,) if timed else ()))


def _called(domain: Domain, column: str) -> pl.Expr:
    return (pl.lit(f"{domain.name}/") + pl.col(column)).alias(column)


def _provenance(
    domains: Sequence[Domain], items: pl.DataFrame, sessions: pl.DataFrame, vectors: Sequence[str]
) -> dict[str, Any]:
    manifests = [domain.dataset.manifest for domain in domains]
    train = sessions.filter(pl.col("split") == "train")["items"]
    orders = [manifest.get("order", {}) for manifest in manifests]
    return {
        "source": "join",
        "domains": [
            {
                "name": domain.name,
                "fingerprint": domain.dataset.fingerprint,
                "counts": domain.dataset.manifest["counts"],
            }
            for domain in domains
        ],
        "split_rule": "; ".join(f"{d.name}: {d.dataset.manifest.get('split_rule', 'unknown')}" for d in domains),
        "order": {
            "rule": "; ".join(f"{d.name}: {o.get('rule', 'unknown')}" for d, o in zip(domains, orders, strict=True)),
            **{name: sum(order.get(name) or 0 for order in orders) for name in _COUNTED},
            "ties": "random" if any(order.get("ties") == "random" for order in orders) else "file",
            "positions": all(order.get("positions", False) for order in orders),
            "ordered": all(domain.dataset.ordered for domain in domains),
        },
        "items_without_text": int((items["text"] == "").sum()),
        "text_encoders": {name: note for name, note in domains[0].dataset.text_encoders.items() if name in vectors},
        "attributes": {},
        "vectors": {name: note for name, note in manifests[0].get("vectors", {}).items() if name in vectors},
        "protocol": protocol.protocol_of(
            train.explode(empty_as_null=False).to_numpy(), train.list.len().to_numpy().astype(np.int64)
        ),
    }


def _summary(domains: Sequence[Domain], out: str) -> str:
    rows: list[tuple[str, ...]] = [("domain", "items", *(f"{split} sessions" for split in SPLITS))]
    for domain in domains:
        counts: Mapping[str, Any] = domain.dataset.manifest["counts"]
        rows.append((domain.name, f"{counts['catalogue']:,}", *(f"{counts[split]['sessions']:,}" for split in SPLITS)))
    fingerprint = dataset_files.read_manifest(pathlib.Path(out))["fingerprint"]
    return f"{aligned(rows)}\n\ndataset {fingerprint} is in {out}"
