"""SAMI pretraining in miniature, with sam_mini as teacher: configs/sami_ti.py for a CPU, and nothing to download.

Paper: Xiong et al. 2023, "EfficientSAM", arXiv 2312.00863, sec. 3.2: mask ratio 0.75, cross-attention decoder, mean
  squared error to the teacher's features on all tokens.
Command: sadist train configs/sami_mini.py, then sadist train configs/efficient_sam_mini.py
Hardware: two CPU cores; metrics.jsonl has the speed.
Number: cosine to the teacher's features at hidden tokens, `masked_similarity` in metrics.jsonl: 0.62 after 800 steps on
  the photos of benchmarks/sami_vs_mae.py; not measured on the data below.

Ours: a decoder of 2 blocks of 128 channels (the paper's 8 of 512 would cost more than student and teacher together);
128 px crops of ten photos and of generated scenes with those photos as surfaces.
"""

from sadist_jax.data.in_memory import InMemory
from sadist_jax.data.mix import Mix
from sadist_jax.data.package_photos import PackagePhotos
from sadist_jax.data.sami_crops import SamiCrops
from sadist_jax.data.scene_source import SceneSource
from sadist_jax.methods.sami import Sami
from sadist_jax.methods.teacher import SamFeatures
from sadist_jax.models.sam import Sam
from sadist_jax.models.sami_decoder import CrossDecoder
from sadist_jax.models.vit import Vit
from sadist_jax.train.checkpoint import CheckpointSpec
from sadist_jax.train.log import LogSpec
from sadist_jax.train.optim import Optim
from sadist_jax.train.run import Data, Run
from sadist_jax.train.start import Start


def scenes() -> InMemory:
    """Both stages see the same scenes: without their masks here, with them in configs/efficient_sam_mini.py."""
    return InMemory(SceneSource(256, count=400, photos=PackagePhotos("train")))


def config() -> Run:
    student, teacher = Vit.mini(), SamFeatures(Sam.mini().image_encoder)
    decoder = CrossDecoder(student.dim, teacher.dim, student.grid, dim=128, depth=2, heads=4)
    return Run(
        name="sami_mini",
        method=Sami(student, decoder, teacher),
        data=Data(Mix(((PackagePhotos("train"), 1.0), (scenes(), 3.0))), SamiCrops(student.image_size)),
        steps=1000,
        global_batch=32,
        optim=Optim(lr=2e-3, warmup=50, b2=0.95, weight_decay=0.05),
        starts=(Start(r"teacher\.(.*)", "sam_mini"),),
        freeze=(r"student\.pos_embed",),
        checkpoint=CheckpointSpec(every=250),
        log=LogSpec(every=25),
    )
