"""What a method asks of a student. Models of ours have it; interop/ gives it to models of Keras and Flax."""

from typing import Protocol, runtime_checkable

from sadist_jax.nn.table import Table
from sadist_jax.typing import Array, Float, Int, Key, Params


class Encoder(Protocol):
    """Makes a map of features of an image. A frozen, hashable dataclass.

    Leaves of role `stat` are moved by the forward pass: `train` returns their new values in aux["stats"].
    """

    def table(self) -> Table: ...

    def apply(self, params: Params, x: Float[Array, "b H W 3"]) -> tuple[Float[Array, "b h w c"], dict]:
        """Normalised image (ops.pixels.normalize) -> (map, aux)."""
        ...


@runtime_checkable
class Trained(Encoder, Protocol):
    """An encoder that behaves otherwise in training: dropout, batch statistics."""

    def train(self, params: Params, x: Float[Array, "b H W 3"], key: Key) -> tuple[Float[Array, "b h w c"], dict]:
        """As `apply`; all its randomness comes from `key`. aux["stats"]: new values of its statistics, nested."""
        ...


class TokenEncoder(Protocol):
    """An encoder that can leave tokens out, for masked pretraining: embeds patches, then works on any set of them.

    dim: channels of a token; grid: tokens along a side at `image_size` px. Its forward pass moves nothing.
    """

    @property
    def dim(self) -> int: ...

    @property
    def grid(self) -> int: ...

    @property
    def image_size(self) -> int: ...

    def table(self) -> Table: ...

    def embed(self, params: Params, x: Float[Array, "b H W 3"]) -> Float[Array, "b h w c"]:
        """Normalised image -> tokens; with their positions, where these are added to tokens."""
        ...

    def encode(
        self, params: Params, x: Float[Array, "b t c"], positions: Int[Array, "b t"]
    ) -> tuple[Float[Array, "b t c"], dict]:
        """Chosen tokens -> (tokens, aux). positions: row * grid + column of each, for attention that depends on it."""
        ...
