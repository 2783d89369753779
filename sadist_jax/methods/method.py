"""What a method is: the one protocol between what to optimise (this room) and when to step, save and log (train/)."""

from typing import Any, Protocol, TypedDict

from sadist_jax.nn.table import Table
from sadist_jax.typing import Array, Batch, Key, Params

Terms = dict[str, tuple[Array, Array, Any]]  # name -> (total, weight, coefficient), scalars
Aux = dict[str, Any]  # see Method.loss


class Tables(TypedDict):
    """The leaves of a method by how they move; a leaf's name is unique over the three. Any of them may be {}."""

    params: Table  # moved by the optimiser; its buffers and statistics are held still all the same
    frozen: Table  # never moves (a teacher)
    extra: Table  # moves without gradient: in `after_step` (an average) or in the forward pass (batch statistics)


class Method(Protocol):
    """A frozen dataclass of hyper-parameters and model objects; it holds no arrays.

    The training loss is sum_i coefficient_i * total_i / weight_i, where totals and weights are first summed over
    micro-batches and hosts. `weight_i` must depend on the batch only, never on the parameters: then k accumulated
    micro-batches give the gradient of the full batch. A term of weight 0 counts as 0.

    To be found by tests/contracts/test_methods.py, a method has a classmethod `tiny() -> (method, batch)`: itself at a
    size that compiles in seconds, and a NumPy batch of 8 samples.
    """

    def table(self) -> Tables:
        """Every leaf that the method uses. Leaves frozen by a run stay listed here under `params`."""
        ...

    def loss(
        self, params: Params, frozen: Params, extra: Params, batch: Batch, key: Key, step: Array
    ) -> tuple[Terms, Aux]:
        """Terms of the loss on one micro-batch.

        Args:
          params, frozen, extra: trees as in `table()`, complete: what a run froze is merged into `params` again.
          batch: arrays with the samples on axis 0; batch["index"] (B,) int32 is the position in the endless stream.
          key: the same for every sample of the step; a sample's own key is jax.random.fold_in(key, batch["index"][i]).
          step: int32, number of steps done before this one.

        Returns:
          ({name: (total, weight, coefficient)}, aux). aux["metrics"], if there, = {name: (total, weight)} is logged as
          the ratio ("pseudo_empty" and "pseudo_full" are watched, see train/collapse.py); aux["moved"], if there, holds
          new values of leaves of `extra`, of all rows of all devices alike.
        """
        ...

    def after_step(self, params: Params, extra: Params, step: Array) -> Params:
        """The new `extra`, from the parameters after the update of step `step` (counted from 0); runs inside jit."""
        ...
