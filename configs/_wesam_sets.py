"""The ten sets that WeSAM adapts to: each function takes the unpacked folder and gives the sources (train, test).

Source: Zhang et al. 2024, arXiv:2312.03502, and the loaders of its release. Splits are "k train, then one test" by
sorted name where no official one is used. Ours, where the release does otherwise or is silent:

- Crowds are no instances; images of COCO with nothing else fall out of both parts. The release keeps them.
- VOC, ISIC, CAMO: an instance is an id of the palette, or the mask above half of its largest value. The release takes
  every distinct colour or grey as one, so soft edges become instances, and knows the first twenty objects of VOC.
- Pictures whose mask has another size are damaged samples (`Data.max_bad_fraction`); the release drops them unsaid.
- OCID and OSD: pictures without an object are counted in the split, and weigh nothing; the release drops them before.
- CHAMELEON has no loader in the release; it is split as COD10K.
"""

from typing import Any

from sadist_jax.data.coco_instances import CocoInstances
from sadist_jax.data.corrupted import Corrupted
from sadist_jax.data.kvasir import KvasirSeg
from sadist_jax.data.label_maps import LabelMaps
from sadist_jax.data.mask_folders import MaskFolders
from sadist_jax.data.ocid import Ocid
from sadist_jax.data.shared_masks import SharedMasks
from sadist_jax.data.splits import Interleaved

Sources = tuple[Any, Any]  # train, test


def coco(root: str = "coco") -> Sources:
    """COCO val2017: root/annotations/instances_val2017.json, root/val2017. 6 to 1 of 5000, before any is dropped."""
    files = f"{root}/annotations/instances_val2017.json", f"{root}/val2017"
    return _parts(CocoInstances(*files), 6, counted=CocoInstances(*files, keep_empty=True))


def coco_c(root: str = "coco", kind: str = "fog", severity: int = 5) -> Sources:
    """`coco`, corrupted in one of 15 ways; the release corrupts with red and blue exchanged and saves as JPEG again."""
    train, test = coco(root)
    return Corrupted(train, kind, severity), Corrupted(test, kind, severity)


def voc(root: str = "VOCdevkit/VOC2012") -> Sources:
    """Pascal VOC 2012: root/JPEGImages, root/SegmentationObject (2913). 6 to 1: 2497 and 416."""
    return _parts(LabelMaps(f"{root}/JPEGImages", f"{root}/SegmentationObject"), 6)


def kvasir(root: str = "Kvasir-SEG") -> Sources:
    """Kvasir-SEG: root/images, root/masks, root/kavsir_bboxes.json (1000). 5 to 1: 834 and 166."""
    return _parts(KvasirSeg(root), 5)


def isic(root: str = "ISIC2016") -> Sources:
    """ISIC 2016, task 1: the four folders root/ISBI2016_ISIC_Part1_{Training,Test}_{Data,GroundTruth}. 900 and 379."""
    train, test = (f"ISBI2016_ISIC_Part1_{part}" for part in ("Training", "Test"))
    return (
        MaskFolders(root, f"{train}_Data", f"{train}_GroundTruth", "_Segmentation"),
        MaskFolders(root, f"{test}_Data", f"{test}_GroundTruth", "_Segmentation"),
    )


def camo(root: str = "CAMO-V.1.0-CVPR2019") -> Sources:
    """CAMO: root/Images/Train, root/Images/Test, root/GT with the masks of both. 1000 and 250."""
    return SharedMasks(root, "Images/Train", "GT"), SharedMasks(root, "Images/Test", "GT")


def chameleon(root: str = "CHAMELEON") -> Sources:
    """CHAMELEON: root/Imgs, root/GT (76), as SINet gives it out. 4 to 1 (ours): 61 and 15."""
    return _parts(MaskFolders(root, "Imgs", "GT"), 4)


def cod10k(root: str = "COD10K-v2") -> Sources:
    """COD10K's test part: root/Test/Image, root/Test/GT_Object (2026 camouflaged). 4 to 1: 1621 and 405."""
    return _parts(MaskFolders(root, "Test/Image", "Test/GT_Object"), 4)


def ocid(root: str = "OCID-dataset") -> Sources:
    """OCID: root/ARID20, root/ARID10, root/YCB10 (2390). 6 to 1: 2049 and 341."""
    return _parts(Ocid(root), 6)


def osd(root: str = "OSD-0.2") -> Sources:
    """OSD: root/image_color, root/annotation (111), in which 0 and 1 are no object. 6 to 1: 96 and 15."""
    return _parts(LabelMaps(f"{root}/image_color", f"{root}/annotation", ignore=(0, 1)), 6)


def _parts(source: Any, train: int, counted: Any = None) -> Sources:
    return (
        Interleaved(source, train, 1, "train", counted),
        Interleaved(source, train, 1, "test", counted),
    )
