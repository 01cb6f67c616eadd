"""`to_format` writes mined data as each trainer reads it, and `from_format` reads it from any of these layouts."""

from hf_hardneg.formats.exporting import to_format
from hf_hardneg.formats.files import save_format
from hf_hardneg.formats.importing import from_format
from hf_hardneg.formats.layouts import LAYOUTS

__all__ = ["LAYOUTS", "from_format", "save_format", "to_format"]
