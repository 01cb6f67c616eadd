"""Functions of the user's in the place of an encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hf_hardneg.runtime.process import single_thread_in_child


@dataclass(frozen=True, kw_only=True)
class TextFunction:
    """Any function of texts; queries and documents are encoded alike.

    Args:
        function (`Callable[[list[str]], Any]`): must be picklable to be used with `num_proc`.
        digest (`str`): its identity.
    """

    function: Callable[[list[str]], Any]
    digest: str

    @property
    def settings(self) -> dict[str, Any]:
        """The function's name."""
        return {"function": getattr(self.function, "__qualname__", type(self.function).__qualname__)}

    def called(self, texts: Sequence[str]) -> Any:
        """Call it, in a worker with one thread."""
        single_thread_in_child()
        return self.function(list(texts))
