"""The simulated user of SAM's training: a box or a click to start with, then clicks where the mask is wrong.

Source: Kirillov et al. 2023, app. A, "Training algorithm". Prompts live in a fixed number of slots, two for a box and
one for each click, so that all rounds share one compiled step; a slot that is not used yet is EMPTY.
"""

import dataclasses

import jax
import jax.numpy as jnp

from sadist_jax.models.prompts import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, EMPTY, FOREGROUND
from sadist_jax.ops import points
from sadist_jax.typing import Array, Bool, Float, Int, Key

BOX_SLOTS = 2
SAM_SIDE = 1024  # the frame that the 20 pixels of box noise refer to


@dataclasses.dataclass(frozen=True)
class Clicks:
    """How a prompt starts and goes on.

    rounds: times the mask is predicted; SAM: 11, one start, eight new clicks and two without a new click.
    quiet_rounds: rounds without a new click, in which only the mask feedback changes: the last one, and others at
      random places (SAM: 2). Taken as `rounds - 1` where there are fewer rounds.
    box_probability: chance that the start is a box, else a click uniform in the object (SAM: 0.5).
    box_noise: standard deviation of a box's coordinates, as a share of its side, to a maximum of 20 pixels of a frame
      of 1024 (SAM: 0.1). 0: tight boxes.
    """

    rounds: int = 11
    quiet_rounds: int = 2
    box_probability: float = 0.5
    box_noise: float = points.BOX_NOISE_SCALE

    def __post_init__(self):
        if self.rounds < 1 or self.quiet_rounds < 0 or self.box_noise < 0:
            raise ValueError(f"rounds must be 1 or more, quiet_rounds and box_noise not negative, got {self}")

    @property
    def slots(self) -> int:
        """Slots of a prompt: a box, the first click, and one for each later round that adds a click."""
        return BOX_SLOTS + self.rounds - min(self.quiet_rounds, self.rounds - 1)

    @property
    def most_points(self) -> int:
        """Slots that the longest prompt fills: the last one stays empty after a box, the box's after a click."""
        return self.slots - (1 if self.box_probability > 0 else BOX_SLOTS)

    def schedule(self, key: Key) -> Bool[Array, " rounds"]:
        """Which rounds are followed by a new click: never the last; the other quiet ones are drawn at random."""
        quiet = min(self.quiet_rounds, self.rounds - 1)
        inner = self.rounds - 2  # transitions between rounds that may be quiet by chance
        if quiet <= 1 or inner < 1:
            loud = jnp.arange(self.rounds) < self.rounds - 1 - quiet
        else:
            drawn = jax.random.permutation(key, jnp.arange(inner) >= quiet - 1)
            loud = jnp.concatenate([drawn, jnp.zeros(2, bool)])
        return loud

    def start(
        self, key: Key, target: Bool[Array, "h w"], box: Float[Array, " 4"], size: Int[Array, " 2"], scale: int
    ) -> tuple[Float[Array, "n 2"], Int[Array, " n"], Bool[Array, ""]]:
        """First slots of one prompt -> (points, labels, whether it is a box).

        Args:
          target: the object at the resolution of the mask logits; `scale` pixels of the frame make one of its pixels.
          box: xyxy of the object in pixel indices of the frame, both ends included.
          size: (height, width) of the content in pixels of the frame.
        """
        choose, place, shake = jax.random.split(key, 3)
        is_box = jax.random.bernoulli(choose, self.box_probability)
        xy, _ = points.sample_in_mask(place, target)
        side = target.shape[-2] * scale
        cap = points.BOX_NOISE_CAP * side / SAM_SIDE
        corners = points.jitter_box(shake, box, size, self.box_noise, cap).reshape(2, 2)
        slots = jnp.zeros((self.slots, 2)).at[:2].set(corners).at[2].set(to_frame(xy, scale))
        kinds = jnp.where(
            is_box, jnp.array([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT, EMPTY]), jnp.array([EMPTY, EMPTY, FOREGROUND])
        )
        labels = jnp.full(self.slots, EMPTY).at[:3].set(kinds)
        return jnp.where((labels == EMPTY)[:, None], 0, slots), labels, is_box

    def correct(
        self,
        key: Key,
        prediction: Bool[Array, "h w"],
        target: Bool[Array, "h w"],
        valid: Bool[Array, "h w"],
        scale: int,
        slots: Float[Array, "n 2"],
        labels: Int[Array, " n"],
        add: Bool[Array, ""],
    ) -> tuple[Float[Array, "n 2"], Int[Array, " n"]]:
        """Put a click from the error region into the first free click slot, if `add`."""
        xy, label = points.sample_error_click(key, prediction, target, valid)
        free = (labels == EMPTY) & (jnp.arange(self.slots) >= BOX_SLOTS)
        here = free & (jnp.cumsum(free) == 1) & add
        return jnp.where(here[:, None], to_frame(xy, scale), slots), jnp.where(here, label, labels)


def to_frame(xy: Float[Array, "... 2"], scale: int) -> Float[Array, "... 2"]:
    """Pixel index of a map `scale` times smaller -> pixel index of the frame, centre on centre."""
    return (xy + 0.5) * scale - 0.5
