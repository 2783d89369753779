"""`python -m sadist_jax` is `sadist`."""

import sys

from sadist_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
