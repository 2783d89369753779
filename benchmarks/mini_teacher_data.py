"""Collect what sam_mini may be trained on: photos that may be redistributed, and nothing else.

    apt-get download lomiri-wallpapers-16.04 lomiri-wallpapers-20.04
    for package in lomiri-wallpapers-*.deb; do dpkg-deb -x $package wallpapers; done
    python benchmarks/mini_teacher_data.py --coco200 DIR --tinycoco DIR --wallpapers wallpapers --out data/sam_mini

* COCO photos under CC BY, CC BY-SA or without known restrictions (annotations CC BY 4.0): 26 of train2017 with
  panoptic segments, which `permissive_licence_images.json` of the data set lists, and the 12 of tinycoco, with
  instances, that are not among those 200. coco200 is 200 photos of COCO 2017 (100 of train2017), with
  images/<split>/ and panoptic_segmentation/annotations as COCO publishes them; tinycoco is 38 photos of COCO with an
  instances JSON. The card of sam_mini lists the ids that were used.
* 13 photos that come inside scikit-image and scikit-learn (public domain, CC0, CC BY) and 14 of Debian's
  lomiri-wallpapers (CC0, CC BY 4.0, CC BY-SA 3.0 and 4.0), without masks.
* regions of all of these photos by Felzenszwalb and Huttenlocher 2004 at three scales, as label maps: the few masks
  that people made would be learned by heart, and regions of even colour and texture are what every photo has.

The surfaces of all photos, and the outlines of their masks, also go into generated scenes (configs/sam_mini_64.py).
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from sadist_jax.data.package_photos import PackagePhotos

PERMISSIVE = (4, 5, 7, 8)  # ids in COCO's "licenses"
LEFT_OUT = ("camera.png",)  # grey
WALLPAPERS = (  # photos, and not drawings
    "Bridge_by_Sander_Klootwijk", "Dragonfly_by_Bolly", "Kleiber_by_Lukas_Baubkus", "Picture_0B_by_freespace",
    "Picture_1A_by_freespace", "Wine_by_Jakkub_Mede", "aitzgorri_by_Aitzol_Berasategi", "free_by_Peter_Nerlich",
    "friends_by_Aitzol_Berasategi", "greentock_by_Peter_Nerlich", "life_by_Aitzol_Berasategi",
    "picosdeeuropa_by_Aitzol_Berasategi", "seeding_by_Clements_Engelhardt", "sunset_by_Aitzol_Berasategi",
)  # fmt: skip
LARGEST = 1024  # pixels of the longest side of a wallpaper
SIDE = 480  # pixels of the longest side of a photo with regions
SCALES, SIGMA, LEAST = (
    (100, 400, 1500),
    0.8,
    0.002,
)  # the method's k and smoothing; smallest region, of the photo's area


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coco200", type=Path, required=True, help="folder of the 200 COCO photos")
    parser.add_argument("--tinycoco", type=Path, required=True, help="folder of the 38 COCO photos")
    parser.add_argument("--wallpapers", type=Path, required=True, help="folder with the two packages, unpacked")
    parser.add_argument("--out", type=Path, default=Path("data/sam_mini"))
    args = parser.parse_args()
    if args.out.exists():
        parser.error(f"{args.out} exists; delete it or choose another --out")
    needed = [args.coco200 / "permissive_licence_images.json", args.tinycoco, args.wallpapers]
    if missing := [str(path) for path in needed if not path.exists()]:
        parser.error(f"there is no {', no '.join(missing)}; give the folders that hold the data")
    (args.out / "photos").mkdir(parents=True)
    print(
        f"{write_panoptic(args.coco200, args.out)} COCO photos with segments, "
        f"{write_instances(args.tinycoco, args.coco200, args.out)} with instances, "
        f"{copy_package_photos(args.out / 'photos')} package photos, "
        f"{shrink_wallpapers(args.wallpapers, args.out / 'photos')} wallpapers, "
        f"{write_regions(args.out)} maps of regions"
    )


def write_panoptic(coco200: Path, out: Path) -> int:
    """Copy the permitted photos and PNGs of the train half and write their panoptic JSON; -> number of photos."""
    listed = json.loads((coco200 / "permissive_licence_images.json").read_text())
    names = {name for split, name, *_ in listed if split == "train2017"}
    annotations = coco200 / "panoptic_segmentation/annotations"
    whole = json.loads((annotations / "panoptic_train2017.json").read_text())
    images = [i for i in whole["images"] if i["file_name"] in names]
    ids = {i["id"] for i in images}
    rows = [a for a in whole["annotations"] if a["image_id"] in ids]
    for folder in ("coco", "panoptic"):
        (out / folder).mkdir()
    for image in images:
        shutil.copy(coco200 / "images/train2017" / image["file_name"], out / "coco")
    for row in rows:
        shutil.copy(annotations / "panoptic_train2017" / row["file_name"], out / "panoptic")
    keep = {"images": images, "annotations": rows, "categories": whole["categories"]}
    (out / "panoptic.json").write_text(json.dumps(keep))
    (out / "attribution.json").write_text(json.dumps([row for row in listed if row[1] in names], indent=1))
    return len(images)


def write_instances(tinycoco: Path, coco200: Path, out: Path) -> int:
    """Copy the permitted photos that are in neither half of coco200 and write their JSON; -> number of photos."""
    known = {file.name for file in coco200.glob("images/*/*.jpg")}
    (out / "tiny").mkdir()
    images, rows, categories = [], [], []
    for part in ("train2017", "val2017"):
        whole = json.loads((tinycoco / f"annotations/instances_{part}.json").read_text())
        kept = [i for i in whole["images"] if i["license"] in PERMISSIVE and i["file_name"] not in known]
        ids = {i["id"] for i in kept}
        images, categories = images + kept, whole["categories"]
        rows += [a for a in whole["annotations"] if a["image_id"] in ids]
        for image in kept:
            shutil.copy(tinycoco / "images" / part / image["file_name"], out / "tiny")
    keep = {"images": images, "annotations": rows, "categories": categories}
    (out / "tiny.json").write_text(json.dumps(keep))
    return len(images)


def copy_package_photos(out: Path) -> int:
    """Copy the photos of the two packages; -> number of photos."""
    files = [file for file in PackagePhotos().open().files if file.name not in LEFT_OUT]
    for file in files:
        shutil.copy(file, out)
    return len(files)


def shrink_wallpapers(packages: Path, out: Path) -> int:
    """Write the chosen photos of the unpacked packages, smaller; -> number of photos."""
    files = {file.stem: file for file in packages.rglob("*.jpg") if not file.is_symlink()}
    for name in WALLPAPERS:
        photo = Image.open(files[name]).convert("RGB")
        photo.thumbnail((LARGEST, LARGEST))
        photo.save(out / f"{name}.jpg", quality=92)
    return len(WALLPAPERS)


def write_regions(out: Path) -> int:
    """Write each photo and its regions at every scale; -> number of maps."""
    from skimage.segmentation import felzenszwalb

    images, maps = out / "regions/images", out / "regions/maps"
    for folder in (images, maps):
        folder.mkdir(parents=True)
    for file in (file for folder in ("coco", "tiny", "photos") for file in sorted((out / folder).iterdir())):
        photo = Image.open(file).convert("RGB")
        photo.thumbnail((SIDE, SIDE))
        least = int(LEAST * photo.width * photo.height)
        for scale in SCALES:
            regions = felzenszwalb(np.asarray(photo), scale=scale, sigma=SIGMA, min_size=least)
            photo.save(images / f"{file.stem}-{scale}.png")
            Image.fromarray((regions + 1).astype(np.uint16)).save(maps / f"{file.stem}-{scale}.png")
    return len(list(maps.iterdir()))


if __name__ == "__main__":
    main()
