"""`to_format` and `from_format`: mined data as each trainer reads it, and back."""

from hf_hardneg.formats.exporting import to_format
from hf_hardneg.formats.files import save_format
from hf_hardneg.formats.importing import from_format
from hf_hardneg.formats.layouts import LAYOUTS

__all__ = ["LAYOUTS", "from_format", "save_format", "to_format"]
