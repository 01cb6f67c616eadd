"""`to_format` writes mined data as each trainer reads it, and `from_format` reads it from any of these layouts."""

from hf_hardneg.formats.evaluation_sets import evaluation_set
from hf_hardneg.formats.exporting import to_format
from hf_hardneg.formats.files import save_format
from hf_hardneg.formats.importing import from_format
from hf_hardneg.formats.layouts import LAYOUTS
from hf_hardneg.formats.score_tables import join_scores

__all__ = ["LAYOUTS", "evaluation_set", "from_format", "join_scores", "save_format", "to_format"]
