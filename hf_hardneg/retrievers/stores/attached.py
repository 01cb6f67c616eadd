"""What `datasets.add_elasticsearch_index` attached to a corpus, as a document store."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from hf_hardneg.retrievers.stores.opensearch import OpenSearch

if TYPE_CHECKING:
    from datasets import Dataset


def attached_words(dataset: Dataset | Any, index: Any) -> OpenSearch | None:
    """The index of Elasticsearch that is attached to a dataset, whose documents are called by its rows.

    Args:
        dataset (`Dataset`): the corpus.
        index (`Any`): the name of what is attached, or itself; `None` is returned for anything else.
    """
    if isinstance(index, str) and hasattr(dataset, "list_indexes") and index in dataset.list_indexes():
        index = dataset.get_index(index)
    client = getattr(index, "es_client", None)
    if client is None:
        return None
    scheme, host, port, folder = _node(client.transport)
    transport = "+https" if scheme == "https" else ""
    return OpenSearch(f"opensearch{transport}://{host}:{port}{folder}/{index.es_index_name}")


def share_clients(dataset: Any) -> None:
    """Let copies of a dataset share its indexes of Elasticsearch: clients cannot be copied, as `with_format` would."""
    for name in dataset.list_indexes() if hasattr(dataset, "list_indexes") else ():
        index = dataset.get_index(name)
        if hasattr(index, "es_client"):
            index.__deepcopy__ = functools.partial(_itself, index)


def _itself(index: Any, memo: dict[int, Any]) -> Any:
    return index


def _node(transport: Any) -> tuple[str, str, int, str]:
    """Scheme, host, port and path of the first server of a client, before and since its version 8."""
    if hasattr(transport, "node_pool"):
        node = transport.node_pool.all()[0].config
        return node.scheme, node.host, node.port, node.path_prefix
    node = transport.hosts[0]
    scheme = "https" if node.get("use_ssl") or node.get("scheme") == "https" else "http"
    return scheme, node["host"], int(node.get("port", 9200)), node.get("url_prefix", "")
