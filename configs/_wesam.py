"""The recipe of WeSAM at full size, which is the same for its ten sets; configs/wesam_coco.py has the words to it."""

from typing import Any, Literal

from sadist_jax.data.weak_frames import WeakFrames
from sadist_jax.evals.weakly_prompted import WeaklyPrompted
from sadist_jax.methods.adapted import Adapted
from sadist_jax.methods.supervised_lora import SupervisedLora
from sadist_jax.methods.tent import Tent
from sadist_jax.methods.weak_lora import WeakLora
from sadist_jax.models.sam import Sam
from sadist_jax.train.before_after import BeforeAfter
from sadist_jax.train.checkpoint import CheckpointSpec
from sadist_jax.train.optim import Optim
from sadist_jax.train.run import Data, Evaluation, Run
from sadist_jax.train.start import Start

How = Literal["weak", "released", "supervised", "tent"]
Asked = Literal["box", "point", "coarse", "coarse_box"]
KINDS: tuple[Asked, ...] = ("box", "point", "coarse", "coarse_box")
NAMES: dict[How, str] = {"weak": "adapted", "released": "as released", "supervised": "Supervised", "tent": "TENT"}


def method_of(how: How, model: Adapted) -> Any:
    """WeSAM as the paper means it, as it was released, with the true masks, or entropy minimisation."""
    released = WeakLora.released(model)
    return {"weak": WeakLora(model), "released": released, "supervised": SupervisedLora(model), "tent": Tent(model)}[
        how
    ]


def run_name(name: str, how: How, prompt: Asked) -> str:
    """The name of a set's run, which is that of its directory, too."""
    return "_".join(["wesam", name] + [prompt] * (prompt != "box") + [how] * (how != "weak"))


def table(name: str, test: Any, evaluation: WeaklyPrompted, how: How, prompt: Asked) -> BeforeAfter:
    """Direct and this run side by side, and the other runs of the set and prompt, where they lie in runs/ already."""
    others = tuple((NAMES[other], f"runs/{run_name(name, other, prompt)}") for other in NAMES if other != how)
    return BeforeAfter(test, evaluation, NAMES[how], others)


def run(name: str, sources: tuple[Any, Any], how: How, prompt: Asked) -> Run:
    """sources: (train, test) of configs/_wesam_sets.py. prompt: to train with; all kinds are asked in the end."""
    train, test = sources
    return Run(
        name=run_name(name, how, prompt),
        method=method_of(how, Adapted(Sam.vit_b(remat=True))),
        data=Data(train, WeakFrames(1024, prompt=prompt), workers=4),
        steps=40_000,
        global_batch=1,
        optim=Optim(lr=1e-4, schedule="steps", milestones=(60_000, 86_666), warmup=250, weight_decay=1e-4),
        starts=(Start.base("sam_vit_b_01ec64.pth"),),
        evals=(Evaluation("test", every=0, evaluate=table(name, test, WeaklyPrompted(KINDS), how, prompt)),),
        checkpoint=CheckpointSpec(every=2000),
    )
