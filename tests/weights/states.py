"""Hypothesis strategies for state dicts, and what it means that two are equal."""

import ml_dtypes
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

SIGNED = ["<f4", "<f2", "<f8", ml_dtypes.bfloat16, "<i8", "<i4", "<i2", "i1", "u1", "?"]  # PyTorch's typed storages
DTYPES = [np.dtype(t) for t in SIGNED]
UNSIGNED = [np.dtype(t) for t in ("<u2", "<u4", "<u8")]


@st.composite
def arrays(draw, dtypes=tuple(DTYPES)) -> np.ndarray:
    """Any bits (NaN payloads, negative zeros), any shape with empty and scalar ones, plain, transposed or sliced."""
    dtype = draw(st.sampled_from(dtypes))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    count = int(np.prod(shape)) * dtype.itemsize
    random = np.random.default_rng(draw(st.integers(0, 99)))
    content = random.integers(0, 2 if dtype.kind == "b" else 256, count, np.uint8)
    array = content.view(dtype).reshape(shape)
    return draw(st.sampled_from([array, array.T, array[..., ::-1] if shape else array, array[1:] if shape else array]))


def states(dtypes=tuple(DTYPES)):
    return st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), arrays(dtypes), min_size=1)


def bits(state: dict) -> dict:
    """What must come back: type, shape and bytes of every array."""
    return {name: (array.dtype, array.shape, array.tobytes()) for name, array in state.items()}
