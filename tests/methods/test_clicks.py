"""The simulated user: how many clicks, where they land, which slots they take."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax.methods.clicks import Clicks, to_frame
from sadist_jax.models.prompts import BACKGROUND, BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, EMPTY, FOREGROUND

KEY = jax.random.key(0)
PIXEL = np.zeros((8, 8), bool)
PIXEL[5, 2] = True  # one object pixel: row 5, column 2
BOX = jnp.array([4.0, 10.0, 5.0, 11.0])  # of that pixel in a frame twice as large


@pytest.mark.parametrize(
    ("rounds", "quiet", "clicks"),
    [(11, 2, 8), (11, 0, 10), (3, 0, 2), (3, 1, 1), (3, 5, 0), (2, 0, 1), (1, 0, 0), (1, 2, 0)],
)
def test_every_round_but_the_first_and_the_quiet_ones_adds_a_click(rounds, quiet, clicks):
    """SAM: 11 rounds, of which 2 are quiet, add 8 clicks to the start (Kirillov et al. 2023, app. A)."""
    user = Clicks(rounds, quiet)
    followed = user.schedule(KEY)
    assert followed.shape == (rounds,)
    assert int(followed.sum()) == clicks
    assert not followed[-1]  # nobody would see that click
    assert user.slots == 2 + 1 + clicks
    assert user.most_points == 2 + clicks
    assert Clicks(rounds, quiet, box_probability=0.0).most_points == 1 + clicks


def test_the_last_round_is_quiet_and_the_other_quiet_one_is_drawn():
    schedules = np.array([Clicks(11, 2).schedule(jax.random.key(i)) for i in range(60)])
    assert not schedules[:, -2].any()  # so the last round repeats the prompt of the one before
    assert schedules[:, :-2].sum(1).tolist() == [8] * 60
    assert set((~schedules[:, :-2]).argmax(1).tolist()) == set(range(9))


@pytest.mark.parametrize(("rounds", "quiet"), [(0, 0), (1, -1)])
def test_impossible_numbers_are_refused(rounds, quiet):
    with pytest.raises(ValueError, match="rounds must be 1 or more"):
        Clicks(rounds, quiet)


def test_pixels_of_a_smaller_map_lie_on_the_centres_of_their_blocks():
    """Block 2 of a frame twice as large has pixels 4 and 5, whose centre is 4.5; of four times, 8 to 11: 9.5."""
    assert to_frame(jnp.array([2.0, 0.0]), 2).tolist() == [4.5, 0.5]
    assert to_frame(jnp.array([2.0, 0.0]), 4).tolist() == [9.5, 1.5]
    assert to_frame(jnp.array([2.0, 0.0]), 1).tolist() == [2.0, 0.0]


def test_a_click_start_takes_the_third_slot():
    slots, labels, is_box = Clicks(3, 0, box_probability=0.0).start(KEY, PIXEL, BOX, jnp.array([16, 16]), 2)
    assert not is_box
    assert labels.tolist() == [EMPTY, EMPTY, FOREGROUND, EMPTY, EMPTY]
    assert slots.tolist() == [[0, 0], [0, 0], [4.5, 10.5], [0, 0], [0, 0]]


def test_a_box_start_takes_the_first_two_slots_with_noise_of_a_tenth_of_its_side():
    user, box, size = Clicks(3, 0, box_probability=1.0), jnp.array([10.0, 20.0, 50.0, 40.0]), jnp.array([64, 64])
    wide = jax.vmap(lambda k: user.start(k, np.ones((32, 32), bool), box, size, 2))
    slots, labels, is_box = wide(jax.random.split(KEY, 400))
    assert is_box.all()
    assert np.unique(labels, axis=0).tolist() == [[BOX_TOP_LEFT, BOX_BOTTOM_RIGHT, EMPTY, EMPTY, EMPTY]]
    np.testing.assert_array_equal(slots[:, 2:], 0)
    corners = np.asarray(slots[:, :2]).reshape(400, 4)
    # sides 40 and 20: noise 4 and 2, cut off at 20 * 64 / 1024 = 1.25 px, so most of it lies on the cut
    assert np.abs(corners - box).max() == pytest.approx(1.25)
    np.testing.assert_allclose(corners.mean(0), box, atol=0.2)


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_the_noise_of_a_box_is_a_share_of_its_side(noise):
    user, box = Clicks(1, 0, 1.0, box_noise=noise), jnp.array([10.0, 20.0, 50.0, 40.0])
    start = jax.vmap(lambda k: user.start(k, np.ones((32, 32), bool), box, jnp.array([64, 64]), 2)[0])
    corners = np.asarray(start(jax.random.split(KEY, 400))[:, :2]).reshape(400, 4)
    np.testing.assert_allclose(corners.std(0), noise * np.array([40, 20, 40, 20]), rtol=0.15, atol=1e-6)


def test_half_of_the_starts_are_boxes():
    starts = jax.vmap(lambda k: Clicks(3, 0).start(k, PIXEL, BOX, jnp.array([16, 16]), 2)[2])
    assert starts(jax.random.split(KEY, 400)).mean() == pytest.approx(0.5, abs=0.1)


def correct(prediction, target, labels, *, add=True, valid=None):
    valid = np.ones((8, 8), bool) if valid is None else valid
    user, slots = Clicks(3, 0), jnp.zeros((5, 2))
    return user.correct(KEY, prediction, target, valid, 2, slots, jnp.array(labels), jnp.array(add))


@pytest.mark.parametrize(
    ("labels", "place"),
    [
        ([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT, EMPTY, EMPTY, EMPTY], 2),
        ([EMPTY, EMPTY, FOREGROUND, EMPTY, EMPTY], 3),
        ([EMPTY, EMPTY, FOREGROUND, BACKGROUND, EMPTY], 4),
    ],
)
@pytest.mark.parametrize(("missed", "label"), [(True, FOREGROUND), (False, BACKGROUND)])
def test_a_correction_takes_the_first_free_click_slot(labels, place, missed, label):
    prediction, target = (np.zeros((8, 8), bool), PIXEL) if missed else (PIXEL, np.zeros((8, 8), bool))
    slots, after = correct(prediction, target, labels)
    assert after.tolist() == [label if i == place else old for i, old in enumerate(labels)]
    assert slots.tolist() == [[4.5, 10.5] if i == place else [0, 0] for i in range(5)]


def test_nothing_is_added_in_a_quiet_round_or_without_a_free_slot():
    nothing = np.zeros((8, 8), bool)
    for labels, add in (([EMPTY, EMPTY, FOREGROUND, EMPTY, EMPTY], False), ([EMPTY, EMPTY, *[FOREGROUND] * 3], True)):
        slots, after = correct(nothing, PIXEL, labels, add=add)
        assert after.tolist() == labels
        assert not slots.any()


def test_padding_is_never_wrong():
    valid = np.zeros((8, 8), bool)
    valid[5, 2:4] = True
    full = np.ones((8, 8), bool)  # wrong nearly everywhere; of the content only at column 3
    slots, labels = correct(full, PIXEL, [EMPTY, EMPTY, FOREGROUND, EMPTY, EMPTY], valid=valid)
    assert (slots[3].tolist(), int(labels[3])) == ([6.5, 10.5], BACKGROUND)
