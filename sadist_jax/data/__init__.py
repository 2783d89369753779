"""Files -> batches of numpy arrays. Nothing here imports JAX, except grain inside `pipeline` once a stream is opened.

A source is a frozen dataclass of plain values; `.open()` checks the files and gives its reader.
"""
