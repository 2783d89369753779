"""What COCO's annotation files have in common: read them and check their tables, with everything wrong counted."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sadist_jax.data.names import first_five
from sadist_jax.errors import BadInput


def read_json(path: str | Path) -> dict[str, Any]:
    """The object in a JSON file."""
    found = parse(path, "annotation file")
    if not isinstance(found, dict):
        raise BadInput(f"{path} holds a {type(found).__name__}, not an object with images and annotations")
    return found


def parse(path: str | Path, what: str) -> Any:
    """Whatever is in a JSON file. what: how to call it in errors, such as "annotation file"."""
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}); give the {what}") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not JSON ({error}); fetch it again") from None


def read_tables(path: str | Path) -> tuple[dict[Any, dict], list[dict], dict[Any, dict]]:
    """(images by id, annotations, categories by id) of a COCO file, each checked for what every reader needs.

    Raises BadInput: tables missing or empty, images without id, file_name or size, ids twice, annotations of images
    or categories that are not listed. A file without categories is accepted. Images of LVIS v1, which have a `coco_url`
    instead of a file_name, get one: "val2017/000000397133.jpg".
    """
    data = read_json(path)
    images, annotations = image_rows(path, data), _rows(path, data, "annotations")
    categories = {row.get("id"): row for row in data.get("categories") or [] if isinstance(row, dict)}
    orphans = [row.get("id", "?") for row in annotations if row.get("image_id") not in images]
    refuse(path, orphans, 'annotations of images that are not in its list "images"')
    return images, annotations, categories


def image_rows(path: str | Path, data: dict[str, Any]) -> dict[Any, dict]:
    """Images by id of the content `data` of a COCO file; the errors of `read_tables` about them."""
    rows = _rows(path, data, "images")
    for row in rows:
        row.setdefault("file_name", _name_in_url(row.get("coco_url")))
    incomplete = [row.get("id") for row in rows if not _is_image(row)]
    refuse(path, incomplete, "images without id, file_name or a whole height and width")
    images = {row["id"]: row for row in rows}
    if len(images) < len(rows):
        raise BadInput(f"{path} has {len(rows) - len(images)} images whose id another image has; number them")
    return images


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


def _rows(path: str | Path, data: dict[str, Any], table: str) -> list[dict]:
    rows = data.get(table)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadInput(f'{path} has no list "{table}" of objects; give a COCO annotation file')
    if not rows:
        raise BadInput(f'{path} has an empty list "{table}", so there is nothing to learn from it')
    return rows


def _name_in_url(url: Any) -> str | None:
    """The last folder and the file, None where there is no address."""
    return "/".join(url.split("/")[-2:]) if isinstance(url, str) else None


def _is_image(row: dict) -> bool:
    whole = all(isinstance(row.get(side), int) and row[side] > 0 for side in ("height", "width"))
    return whole and isinstance(row.get("id"), int | str) and isinstance(row.get("file_name"), str)
