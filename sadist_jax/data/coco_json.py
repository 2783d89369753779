"""What COCO's annotation files have in common: read them and check their tables, with everything wrong counted."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sadist_jax.data.names import first_five
from sadist_jax.errors import BadInput


def read_json(path: str | Path) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        found = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}); give the annotation file") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not JSON ({error}); fetch it again") from None
    if not isinstance(found, dict):
        raise BadInput(f"{path} holds a {type(found).__name__}, not an object with images and annotations")
    return found


def read_tables(path: str | Path) -> tuple[dict[Any, dict], list[dict], dict[Any, dict]]:
    """(images by id, annotations, categories by id) of a COCO file, each checked for what every reader needs.

    Raises BadInput: tables missing or empty, images without id, file_name or size, ids twice, annotations of images
    or categories that are not listed. A file without categories is accepted.
    """
    data = read_json(path)
    rows = {}
    for table in ("images", "annotations"):
        rows[table] = data.get(table)
        if not isinstance(rows[table], list) or not all(isinstance(row, dict) for row in rows[table]):
            raise BadInput(f'{path} has no list "{table}" of objects; give a COCO annotation file')
        if not rows[table]:
            raise BadInput(f'{path} has an empty list "{table}", so there is nothing to learn from it')
    incomplete = [row.get("id") for row in rows["images"] if not _is_image(row)]
    refuse(path, incomplete, "images without id, file_name or a whole height and width")
    images = {row["id"]: row for row in rows["images"]}
    if len(images) < len(rows["images"]):
        raise BadInput(f"{path} has {len(rows['images']) - len(images)} images whose id another image has; number them")
    categories = {row.get("id"): row for row in data.get("categories") or [] if isinstance(row, dict)}
    orphans = [row.get("id", "?") for row in rows["annotations"] if row.get("image_id") not in images]
    refuse(path, orphans, 'annotations of images that are not in its list "images"')
    return images, rows["annotations"], categories


def refuse_unknown_categories(path: str | Path, ids: Iterable[Any], categories: dict[Any, dict]) -> None:
    """Raises BadInput for ids that are not numbers, or not in the file's categories where it has some.

    -1 stands for an annotation without a category.
    """
    unknown = sorted(
        {str(i) for i in ids if not isinstance(i, int) or (i != -1 and categories and i not in categories)}
    )
    refuse(path, unknown, 'category ids that are not in its list "categories"')


def refuse(path: str | Path, wrong: list, what: str) -> None:
    """Raises BadInput with count and first five, when there are any."""
    if wrong:
        raise BadInput(f"{path} has {len(wrong)} {what}: {first_five([str(w) for w in wrong])}; correct the file")


def _is_image(row: dict) -> bool:
    whole = all(isinstance(row.get(side), int) and row[side] > 0 for side in ("height", "width"))
    return whole and isinstance(row.get("id"), int | str) and isinstance(row.get("file_name"), str)
