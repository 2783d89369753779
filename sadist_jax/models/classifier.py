"""A plain ViT with a linear classifier on the mean of its tokens: what a pretrained encoder is fine-tuned as.

Sources: He et al. 2022 (MAE), fine-tuning with global pooling: the mean of the patches' tokens, a norm, one linear
layer; timm's VisionTransformer(class_token=False, global_pool="avg") is the same, with the same names, but for one row:
the position table of our `Vit` keeps that of a class token. The head starts at a deviation of 2e-5 (MAE,
main_finetune.py), so that the first steps say "all classes alike" and hardly disturb the encoder.
"""

import dataclasses

import jax

from sadist_jax.models.vit import NORM_EPS, Vit
from sadist_jax.nn import layers, table
from sadist_jax.nn.table import Table
from sadist_jax.ops.precision import widen
from sadist_jax.typing import Array, Float, Key, Params

_head_init = jax.nn.initializers.normal(2e-5)


@dataclasses.dataclass(frozen=True)
class Classifier:
    """Parts and sizes. Parameters: those of the ViT, fc_norm and head side by side.

    classes: number of logits.
    """

    vit: Vit
    classes: int = 1000

    def table(self) -> Table:
        head = layers.dense_table(self.vit.dim, self.classes, init=_head_init)
        return self.vit.table() | {"fc_norm": layers.norm_table(self.vit.dim), "head": head}

    def init(self, key: Key) -> Params:
        return table.init(self.table(), key)

    def apply(
        self, params: Params, x: Float[Array, "b H W 3"], keys: Key | None = None
    ) -> tuple[Float[Array, "b classes"], dict[str, Array]]:
        """Normalised image of any size in patches -> (logits, at least float32, and aux with `pooled` features (b, c)).

        keys: (b,), one a sample, for the drop path of training; None: nothing is random.
        """
        tokens = self.vit.embed(params, x)
        b, h, w, c = tokens.shape
        tokens, _ = self.vit.encode(params, tokens.reshape(b, h * w, c), keys=keys)
        pooled = layers.layer_norm(params["fc_norm"], widen(tokens).mean(1), NORM_EPS)
        return layers.dense(params["head"], pooled), {"pooled": pooled}
