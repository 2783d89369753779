"""The plain ViT, EfficientSAM's neck and SAMI's cross-attention decoder in eager PyTorch, as one writes them there.

Structure and names follow facts known of EfficientSAM's released code and checkpoints (which are not on the package
index) and sadist_jax/models/sami_decoder.py, so that the same weights load strictly; the lines are ours.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

EPS = 1e-6
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet, RGB, 0..255

SIZES = {"ti": (192, 12, 3, 16, 14), "mini": (128, 4, 2, 8, 16)}  # dim, depth, heads, patch, grid

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The whole score matrix at once, as released. (batch, heads, tokens, head dim)."""
    return (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(-1) @ v


ATTENTION: dict[str, Attend] = {"plain": plain, "sdpa": F.scaled_dot_product_attention}


def normalize(image: torch.Tensor) -> torch.Tensor:
    """(b, h, w, 3) uint8 -> (b, 3, h, w), mean 0 and variance 1 over ImageNet."""
    return ((image.float() - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)


def heads_of(x: torch.Tensor, heads: int) -> torch.Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class Mlp(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class SelfAttention(nn.Module):
    def __init__(self, dim: int, heads: int, attend: Attend):
        super().__init__()
        self.heads, self.attend = heads, attend
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(self.attend(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, dim: int, heads: int, attend: Attend):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim, EPS), SelfAttention(dim, heads, attend)
        self.norm2, self.mlp = nn.LayerNorm(dim, EPS), Mlp(dim)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, dim: int, patch: int):
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, patch)

    def forward(self, x):
        return self.proj(x)


class Vit(nn.Module):
    """`grid`: side of the position table, which has a row for a class token that nothing uses."""

    def __init__(self, dim: int, depth: int, heads: int, patch: int, grid: int, attend: Attend):
        super().__init__()
        self.grid, self.patch_embed = grid, PatchEmbed(dim, patch)
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid**2, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, attend) for _ in range(depth))

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised (b, 3, h, w) -> (b, tokens, dim)."""
        x = self.patch_embed(x)
        positions = self.pos_embed[:, 1:].unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        if x.shape[2:] != positions.shape[2:]:
            positions = F.interpolate(positions, x.shape[2:], mode="bicubic", align_corners=False)
        return (x + positions).flatten(2).transpose(1, 2)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (b, c, h, w)."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ImageEncoder(Vit):
    """EfficientSAM's: a plain ViT and SAM's neck. (b, h, w, 3) uint8 -> (b, out_dim, h / patch, w / patch)."""

    def __init__(self, dim: int, depth: int, heads: int, patch: int, grid: int, attend: Attend, out_dim: int):
        super().__init__(dim, depth, heads, patch, grid, attend)
        self.neck = nn.Sequential(
            nn.Conv2d(dim, out_dim, 1, bias=False), ChannelNorm(out_dim, EPS),
            nn.Conv2d(out_dim, out_dim, 3, padding=1, bias=False), ChannelNorm(out_dim, EPS),
        )  # fmt: skip

    def forward(self, image):
        x = self.encode(self.embed(normalize(image)))
        side = round(x.shape[1] ** 0.5)
        return self.neck(x.transpose(1, 2).unflatten(-1, (side, side)))


class CrossAttention(nn.Module):
    def __init__(self, dim: int, heads: int, attend: Attend):
        super().__init__()
        self.heads, self.attend = heads, attend
        self.q, self.k, self.v, self.proj = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x, context):
        q, k, v = (heads_of(layer(y), self.heads) for layer, y in ((self.q, x), (self.k, context), (self.v, context)))
        return self.proj(self.attend(q, k, v).transpose(1, 2).flatten(2))


class CrossBlock(nn.Module):
    def __init__(self, dim: int, heads: int, attend: Attend):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim, EPS), CrossAttention(dim, heads, attend)
        self.norm2, self.mlp = nn.LayerNorm(dim, EPS), Mlp(dim)

    def forward(self, x, context):
        x = x + self.attn(self.norm1(x), self.norm1(context))
        return x + self.mlp(self.norm2(x))


class CrossDecoder(nn.Module):
    """SAMI's: masked tokens are queries, visible and masked tokens keys and values; all tokens come out, in order."""

    def __init__(self, in_dim: int, out_dim: int, tokens: int, dim: int, depth: int, heads: int, attend: Attend):
        super().__init__()
        self.encoder_norm, self.embed = nn.LayerNorm(in_dim, EPS), nn.Linear(in_dim, dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.register_buffer("pos_embed", torch.zeros(1, tokens, dim))
        self.blocks = nn.ModuleList(CrossBlock(dim, heads, attend) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(dim, EPS), nn.Linear(dim, out_dim)

    def forward(self, visible, order):
        seen = self.embed(self.encoder_norm(visible))
        kept, positions = seen.shape[1], self.pos_embed[0][order]
        seen, hidden = seen + positions[:, :kept], self.mask_token + positions[:, kept:]
        for block in self.blocks:
            hidden = block(hidden, torch.cat([seen, hidden], 1))
        x = self.head(self.norm(torch.cat([seen, hidden], 1)))
        return x.gather(1, order.argsort(1)[..., None].expand_as(x))
