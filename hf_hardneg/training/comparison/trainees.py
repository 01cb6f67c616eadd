"""What a comparison trains: a projection of stored vectors, or a whole model; both read texts through a collator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_hardneg.corpus.positives import KnownPositives
from hf_hardneg.models.forward import in_order, loading, passes
from hf_hardneg.models.model_files import ModelFiles
from hf_hardneg.text.keys import Dedupe
from hf_hardneg.training.collator import CrossBatchCollator
from hf_hardneg.training.similarity import Similarity

QUERY, DOCUMENT = "query\0", "document\0"
"""What stands before a text in a table of vectors, since a text may be both."""


@dataclass(frozen=True, kw_only=True)
class Trainee:
    """A model at the start of a training.

    Args:
        module (`torch.nn.Module`): from what `tokenizer` returns to vectors, (n, d).
        tokenizer (`Callable`): what a collator calls with texts.
        query_prompt, document_prompt (`str`): put before texts.
        max_length (`int`, *optional*): tokens after which texts are cut.
        similarity (`str`): how its vectors are compared.
        encode (`Callable`): takes (`"query"` or `"document"`, places), and returns vectors of these queries or ranked
            documents with the weights of the moment, (n, d) float32.
    """

    module: torch.nn.Module
    tokenizer: Callable[..., Any]
    query_prompt: str
    document_prompt: str
    max_length: int | None
    similarity: Similarity
    encode: Callable[[str, np.ndarray], np.ndarray]

    def collator(self, known: KnownPositives | None, dedupe: Dedupe, num_negatives: int) -> CrossBatchCollator:
        """Make the collator of a training, which leaves known positives of a query out of its negatives."""
        return CrossBatchCollator(
            self.tokenizer,
            num_negatives=num_negatives,
            query_prompt=self.query_prompt,
            document_prompt=self.document_prompt,
            query_max_length=self.max_length,
            document_max_length=self.max_length,
            known=known,
            dedupe=dedupe,
        )


class Projection(torch.nn.Module):
    """A square matrix over vectors of a frozen model; at the start it changes nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(width))

    def forward(self, vectors: Tensor) -> Tensor:
        """Map vectors, (n, d), to vectors of the same width."""
        return vectors @ self.weight


@dataclass(frozen=True, kw_only=True)
class StoredVectors:
    """Vectors by text, in the place of a tokenizer.

    Args:
        place (`dict[str, int]`): where the vector of each prompted text is.
        vectors (`Tensor`): (n, d).
    """

    place: dict[str, int]
    vectors: Tensor

    def __call__(self, texts: Sequence[str], **options: Any) -> Tensor:
        """Look up the vectors of some texts, (n, d); the options of a tokenizer mean nothing here."""
        return self.vectors[[self.place[text] for text in texts]]


def projection_of(stored: StoredVectors, queries: np.ndarray, documents: np.ndarray, similarity: Similarity) -> Trainee:
    """Make a projection of stored vectors.

    Args:
        stored (`StoredVectors`): of every text that is trained on, after `QUERY` or `DOCUMENT`.
        queries, documents (`np.ndarray`): (q, d) and (n, d) vectors of the queries and of the ranked documents.
        similarity (`str`): how the vectors are compared.
    """
    module = Projection(queries.shape[1])

    def encode(kind: str, places: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            vectors = torch.from_numpy(np.ascontiguousarray((queries if kind == "query" else documents)[places]))
            projected: np.ndarray = module(vectors).numpy()
            return projected

    return Trainee(
        module=module,
        tokenizer=stored,
        query_prompt=QUERY,
        document_prompt=DOCUMENT,
        max_length=None,
        similarity=similarity,
        encode=encode,
    )


class PooledModel(torch.nn.Module):
    """A transformers model with the pooling that its files describe."""

    def __init__(self, model: Any, files: ModelFiles) -> None:
        super().__init__()
        self.model, self.files = model, files

    def forward(self, tokens: Any) -> Tensor:
        """Map tokens of n texts to vectors, (n, d)."""
        inputs = {name: values.to(self.model.device) for name, values in tokens.items()}
        hidden = self.model(**inputs).last_hidden_state
        return self.files.pool(hidden, inputs["attention_mask"])[:, : self.files.truncate_dim]


def whole_model_of(
    files: ModelFiles, queries: Sequence[str], documents: Sequence[str], *, max_length: int, device: str
) -> Trainee:
    """Load a model of which every layer is trained.

    Args:
        files (`ModelFiles`): where it lies and what its files say.
        queries, documents (`Sequence[str]`): texts that are to be ranked.
        max_length (`int`): tokens after which texts are cut, if the model allows so many.
        device (`str`): where it is trained.

    Raises:
        ModelError: it cannot be loaded.
    """
    from transformers import AutoModel, AutoTokenizer

    with loading(files.folder, otherwise="another model"):
        tokenizer = AutoTokenizer.from_pretrained(files.folder, padding_side="right", trust_remote_code=False)
        model = AutoModel.from_pretrained(files.folder, trust_remote_code=False).float().to(device)
    module, limit = PooledModel(model, files), min(max_length, files.max_length)

    def cut(texts: Sequence[str], **options: Any) -> Any:
        return tokenizer([text.lower() if files.lower_case else text for text in texts], **options)

    def encode(kind: str, places: np.ndarray) -> np.ndarray:
        prompt, texts = (files.query_prompt, queries) if kind == "query" else (files.document_prompt, documents)
        tokens = cut([prompt + texts[place] for place in places], truncation=True, max_length=limit)
        module.eval()
        return in_order(passes(module, tokenizer, {"input_ids": tokens["input_ids"]}, limit=limit, device=device))

    return Trainee(
        module=module,
        tokenizer=cut,
        query_prompt=files.query_prompt,
        document_prompt=files.document_prompt,
        max_length=limit,
        similarity="cosine",
        encode=encode,
    )
