import subprocess
import sys
import warnings

import pytest

from hf_hardneg.errors import HardNegWarning, warn

SCRIPT = """
from hf_hardneg import AbsoluteMargin
for _ in range(2):
    AbsoluteMargin(-0.1)
AbsoluteMargin(-0.1)
"""


def test_a_script_that_configures_nothing_sees_each_warning_once_for_each_line_under_that_line():
    shown = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stderr
    places = [line.partition(" HardNegWarning: ")[0] for line in shown.splitlines() if "HardNegWarning" in line]
    assert places == ["<string>:4:", "<string>:5:"]


def test_warnings_can_be_hidden_and_raised():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HardNegWarning)
        warn("Nothing. Do nothing.")
    with pytest.raises(HardNegWarning, match="Do nothing"):
        warn("Nothing. Do nothing.")
