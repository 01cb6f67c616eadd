"""`python -m hf_hardneg.cli` is `hf-hardneg`."""

import sys

from hf_hardneg.cli.running import main

if __name__ == "__main__":
    sys.exit(main())
