"""The cells of wesam_domains.py: what trains on what, how long, and where it is kept."""

import dataclasses
import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import sadist_jax
from benchmarks.wesam_domains_data import DOMAINS, POLYPS, THERMAL, Part, domain
from sadist_jax.data.weak_frames import WeakFrames
from sadist_jax.evals.weakly_prompted import AUTOMATIC, Kind, WeaklyPrompted
from sadist_jax.methods.adapted import Adapted
from sadist_jax.methods.mask_terms import MaskTerms
from sadist_jax.methods.supervised_lora import SupervisedLora
from sadist_jax.methods.tent import NORMS, Tent
from sadist_jax.methods.weak_lora import WeakLora
from sadist_jax.models.sam import Sam
from sadist_jax.predict.automatic_prompts import prompts_of
from sadist_jax.predict.everything import MaskGenerator
from sadist_jax.predict.grid import Everything
from sadist_jax.train import config as configs
from sadist_jax.train.checkpoint import CheckpointSpec
from sadist_jax.train.log import LogSpec
from sadist_jax.train.run import Data, Run
from sadist_jax.weights.files import replacing

DIRECT, WEAK, TENT, SUPERVISED = "direct", "weak", "tent", "supervised"
MAIN = (WEAK, TENT, SUPERVISED)
ACROSS = (DIRECT, WEAK)  # are asked with all kinds of prompts, the others with that of their training
PROMPTS = ("box", "point", "coarse", AUTOMATIC)
ASKED: tuple[Kind, ...] = ("box", "point", "coarse", "coarse_box")  # beside AUTOMATIC, of the models of ACROSS
LEAST = 32  # pixels of the 256 px frame that an object must have, in training and in the test
ROWS, INSTANCES = 4, 8  # objects of an image, in training and in the test
ALONE = (POLYPS, THERMAL)  # domains with one object an image: a step without empty rows is faster
SURE: dict[str, Any] = {"pred_iou_thresh": 0.35, "stability_score_thresh": 0.4}  # for .88 and .95 it is too unsure
SUREST = 16  # automatic prompts of an image
RECORDS = "records.json"  # of a cell
TUNED = "tuned-{}.json"  # of a method

SAM = Sam.mini()
LORA = Adapted(SAM)
ABLATIONS: dict[str, Any] = {
    "no-focal": WeakLora(LORA, MaskTerms(focal_weight=0)),
    "no-dice": WeakLora(LORA, MaskTerms(dice_weight=0)),
    "no-iou": WeakLora(LORA, MaskTerms(iou_weight=0)),
    "no-anchor": WeakLora(LORA, anchor_weight=0),
    "no-contrast": WeakLora(LORA, contrast_weight=0),
    "self-training": WeakLora(LORA, anchor_weight=0, contrast_weight=0),
    "train-decoder": WeakLora(Adapted(SAM, None, (r"mask_decoder\..*",))),
    "train-norms": WeakLora(Adapted(SAM, None, NORMS)),
    "train-all": WeakLora(Adapted(SAM, None, (r".*",))),
}
READINGS = ("released", "average")  # as the released code has it; with an averaged teacher
METHODS: dict[str, Any] = {
    WEAK: WeakLora(LORA),
    TENT: Tent(LORA),
    SUPERVISED: SupervisedLora(LORA),
    "released": WeakLora.released(LORA),
    "average": WeakLora(LORA, teacher="average"),
    "tent-norms": Tent(Adapted(SAM, None, NORMS)),
    **ABLATIONS,
}


NONE = "none"


class Cell(NamedTuple):
    """prompt: of the training; DIRECT has NONE, and one seed."""

    domain: str
    prompt: str
    method: str
    seed: int

    @property
    def name(self) -> str:
        return "-".join(map(str, (self.domain, self.prompt, self.method, self.seed)))


def keep(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(json.dumps(value).encode())


def direct(name: str) -> Cell:
    """sam_mini as it is."""
    return Cell(name, NONE, DIRECT, 0)


class Hyper(NamedTuple):
    """Of a run: the highest learning rate, and how many steps it has; the defaults are for trying it out."""

    lr: float = 1e-3
    steps: int = 200


@functools.cache
def _recipe() -> Run:
    return configs.make("wesam_mini")[0]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is asked for, and where everything is.

    lr, steps: None: as tuned. limit: at most so many test images, to try it out. grid: clicks a side for automatic
      prompts.
    """

    data: Path
    runs: Path
    domains: tuple[str, ...] = DOMAINS
    prompts: tuple[str, ...] = PROMPTS
    methods: tuple[str, ...] = MAIN
    seeds: int = 3
    lr: float | None = None
    steps: int | None = None
    limit: int | None = None
    grid: int = 16

    def cells(self) -> Iterator[Cell]:
        """Direct, and all that are to be trained, the first seed of everything first."""
        yield from map(direct, self.domains)
        for seed in range(self.seeds):
            for name in self.domains:
                for prompt in self.prompts:
                    for method in self.methods:
                        if (prompt, method) != (AUTOMATIC, SUPERVISED):  # nobody has drawn the true masks of those
                            yield Cell(name, prompt, method, seed)

    def hyper(self, method: str) -> Hyper:
        """As tuned, if it was; a variant of the whole method that was not, as one without a loss, has its numbers."""
        files = [self.runs / TUNED.format(name) for name in (method, *[WEAK] * (method not in MAIN))]
        kept = next((json.loads(path.read_text()) for path in files if path.exists()), ())
        found = Hyper(*kept)
        return Hyper(found.lr if self.lr is None else self.lr, found.steps if self.steps is None else self.steps)

    def directory(self, cell: Cell, hyper: Hyper | None = None, part: Part = "train") -> Path:
        """Where the records of a cell are, and, if it is trained, its run; with other numbers it lies elsewhere."""
        if cell.method == DIRECT:
            return self.runs / cell.name
        hyper = hyper or self.hyper(cell.method)
        return self.runs / f"{cell.name}-{part}-{hyper.lr:g}-{hyper.steps}"

    def run(self, cell: Cell, hyper: Hyper | None = None, part: Part = "train") -> Run:
        """configs/wesam_mini.py on these images."""
        hyper, recipe = hyper or self.hyper(cell.method), _recipe()
        prompts = str(self.prompts_file(cell.domain, part)) if cell.prompt == AUTOMATIC else None
        kind: Any = cell.prompt
        rows = 1 if cell.domain in ALONE and kind != AUTOMATIC else ROWS
        frames = WeakFrames(256, instances=rows, prompt=kind, prompts=prompts, min_area=LEAST)
        return dataclasses.replace(
            recipe,
            name=f"wesam_domains {cell.name}",
            out=str(self.directory(cell, hyper, part)),
            method=METHODS[cell.method],
            data=Data(domain(self.data, cell.domain, part), frames),
            seed=cell.seed,
            steps=hyper.steps,
            optim=dataclasses.replace(recipe.optim, lr=hyper.lr, warmup=min(recipe.optim.warmup, hyper.steps - 1)),
            evals=(),
            checkpoint=CheckpointSpec(every=hyper.steps, keep=1),
            log=LogSpec(every=max(1, hyper.steps // 20)),
        )

    def evaluation(self, cell: Cell, kinds: Sequence[Any] | None = None) -> WeaklyPrompted:
        """What a cell's model is asked on the test images of its domain; or `kinds`, on any of its images."""
        every = cell.method in ACROSS
        automatic = str(self.prompts_file(cell.domain, "test")) if every or cell.prompt == AUTOMATIC else None
        own = ASKED if every else tuple(kind for kind in ASKED if kind == cell.prompt)
        return WeaklyPrompted(
            own if kinds is None else tuple(kinds),
            automatic if kinds is None else None,
            size=256,
            logits=128,
            min_area=LEAST,
            per_image=INSTANCES,
        )

    def prompts_file(self, name: str, part: Part) -> Path:
        """What sam_mini finds by itself in a part of a domain; `make_prompts` writes it."""
        return self.runs / f"prompts-{name}-{part}-{self.grid}.json"

    def make_prompts(self, name: str, part: Part) -> None:
        """Of every image, the surest of what everything mode keeps."""
        path = self.prompts_file(name, part)
        if path.exists():
            return
        options = Everything(points_per_side=self.grid, **SURE)
        generator = MaskGenerator(*sadist_jax.load("sam_mini"), options, "coco_rle")
        reader = domain(self.data, name, part).open()
        samples = (reader[i] for i in range(len(reader)))
        found = {sample.name: prompts_of(generator.generate(sample.image)[:SUREST]) for sample in samples}
        print(f"{name}, {part}: {sum(map(len, found.values()))} automatic prompts in {len(found)} images", flush=True)
        keep(path, found)
