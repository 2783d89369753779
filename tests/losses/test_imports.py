"""Others may import the losses with nothing but jax installed."""

import subprocess
import sys
from pathlib import Path

import pytest

import sadist_jax.losses

ROOT = Path(sadist_jax.losses.__file__).parents[2]

# jax and what jax itself requires
ALLOWED = {"sadist_jax", "jax", "jaxlib", "numpy", "ml_dtypes", "opt_einsum", "scipy"}

WITH_NOTHING_ELSE = """
import sys

class Only:
    # a finder that does not see what a bare environment lacks: None, as for any unknown name
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        # sysconfig's own data module is named after the platform and missing in stdlib_module_names
        known = top in sys.stdlib_module_names | ALLOWED or top.startswith("_sysconfigdata")
        return self.finder.find_spec(name, path, target) if known else None

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Only(finder) for finder in sys.meta_path]
try:
    import optax
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("the block does not block")

import jax.numpy as jnp
import sadist_jax.losses as losses

print(float(losses.dice(jnp.zeros((4, 4)), jnp.zeros((4, 4)).at[:2].set(1))))
"""


def test_losses_need_only_jax():
    program = WITH_NOTHING_ELSE.replace("ALLOWED", repr(ALLOWED), 1)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(1 - 9 / 17)
