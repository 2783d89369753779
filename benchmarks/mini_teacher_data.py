"""Collect what sam_mini may be trained on: photos that may be redistributed, and nothing else.

    python benchmarks/mini_teacher_data.py --coco200 DIR --out data/sam_mini

* 26 photos of COCO train2017 under CC BY, CC BY-SA or without known restrictions, with their panoptic segments
  (annotations CC BY 4.0): `permissive_licence_images.json` of the data set lists them.
* photos that come inside scikit-image and scikit-learn (public domain, CC0, CC BY), without masks: only their surfaces
  are used, in generated scenes.
"""

import argparse
import json
import shutil
from pathlib import Path

from sadist_jax.data.package_photos import PackagePhotos

LEFT_OUT = ("camera.png",)  # grey, and never among what sam_mini was trained on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coco200", type=Path, required=True, help="folder of the 200 COCO photos")
    parser.add_argument("--out", type=Path, default=Path("data/sam_mini"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    print(
        f"{write_coco(args.coco200, args.out)} COCO photos, {copy_package_photos(args.out / 'photos')} package photos"
    )


def write_coco(coco200: Path, out: Path) -> int:
    """Copy the permitted photos and PNGs of the train half and write their panoptic JSON; -> number of photos."""
    listed = json.loads((coco200 / "permissive_licence_images.json").read_text())
    names = {name for split, name, *_ in listed if split == "train2017"}
    annotations = coco200 / "panoptic_segmentation/annotations"
    whole = json.loads((annotations / "panoptic_train2017.json").read_text())
    images = [i for i in whole["images"] if i["file_name"] in names]
    ids = {i["id"] for i in images}
    rows = [a for a in whole["annotations"] if a["image_id"] in ids]
    for folder in ("coco", "panoptic"):
        (out / folder).mkdir(exist_ok=True)
    for image in images:
        shutil.copy(coco200 / "images/train2017" / image["file_name"], out / "coco")
    for row in rows:
        shutil.copy(annotations / "panoptic_train2017" / row["file_name"], out / "panoptic")
    keep = {"images": images, "annotations": rows, "categories": whole["categories"]}
    (out / "panoptic.json").write_text(json.dumps(keep))
    (out / "attribution.json").write_text(json.dumps([row for row in listed if row[1] in names], indent=1))
    return len(images)


def copy_package_photos(out: Path) -> int:
    """Copy the photos of the two packages; -> number of photos."""
    out.mkdir(exist_ok=True)
    files = [file for file in PackagePhotos().open().files if file.name not in LEFT_OUT]
    for file in files:
        shutil.copy(file, out)
    return len(files)


if __name__ == "__main__":
    main()
