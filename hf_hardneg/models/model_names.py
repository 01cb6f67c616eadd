"""What models are called, for people: the Hub id, the folder they lie in, or the class or function that was given."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hf_hardneg.corpus.loaded_from import hub_id_of
from hf_hardneg.store.kinds import CROSS_ENCODER, ENCODER

_MODULE, _SAVED = re.compile(r"^\d+_\w+$"), re.compile(rf"({ENCODER}|{CROSS_ENCODER})-[0-9a-f]{{32}}")


class ModelName(NamedTuple):
    """The name of a model.

    Args:
        name (`str`): its Hub id, else the last part of its path, or of a live object its class or name.
        kind (`str`): `"hub"`, `"folder"`, or `"live"` for what only a running process holds.
        revision (`str`, *optional*): the commit, of one from the Hub.
    """

    name: str
    kind: Literal["hub", "folder", "live"]
    revision: str | None = None


def unwrapped(model: Any) -> Any:
    """Return the encoder or scorer itself; stored and cross-fitted scorers are opened up."""
    model = getattr(model, "scorer", model)
    return getattr(model, "scorers", (model,))[0]


def model_name(model: Any) -> ModelName:
    """Return the name of an encoder or a scorer, from where its settings say that it lies."""
    model = unwrapped(model)
    settings = getattr(model, "settings", {})
    folder = str(settings.get("folder") or settings.get("model") or "")
    hub_id, revision = hub_id_of(folder)
    if hub_id:
        return ModelName(hub_id, "hub", revision)
    path = Path(folder)
    if path.is_absolute() and not _SAVED.search(folder):
        parts = [part for part in path.parts if not _MODULE.match(part) and not part.startswith("fold-")]
        return ModelName(parts[-1], "folder")
    name = settings.get("function") or (type(model).__name__ if path.is_absolute() else folder)
    return ModelName(str(name or type(model).__name__), "live")
