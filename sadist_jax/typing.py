"""Array aliases for signatures: jaxtyping's where it is installed, plain stand-ins otherwise.

`import sadist_jax.losses` must work with nothing but jax, so jaxtyping is never required at run time.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax

Array = jax.Array

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, UInt8
else:
    try:
        from jaxtyping import Bool, Float, Int, UInt8
    except ModuleNotFoundError:

        class _Plain:
            """`Float[Array, "n 2"]` is then just the array type."""

            def __class_getitem__(cls, item):
                return item[0]

        Bool = Float = Int = UInt8 = _Plain

Key = jax.Array  # a typed PRNG key, shape ()
Params = Any  # nested dict; its leaf names, joined by dots, are the names in the reference checkpoint
Batch = Mapping[str, Array]
Metrics = dict[str, tuple[Array, Array]]  # name -> (total, weight); divided once, on the host

__all__ = ["Array", "Batch", "Bool", "Float", "Int", "Key", "Metrics", "Params", "UInt8"]
