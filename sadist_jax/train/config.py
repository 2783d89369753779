"""Config files: Python files with `config() -> Run`; those that come with the package are found by name."""

import difflib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from sadist_jax.errors import BadInput

_ROOT = Path(__file__).parents[1]
SHIPPED = (_ROOT / "configs", _ROOT.parent / "configs")  # in the wheel, in a checkout


def find(name: str) -> Path:
    """The config file of that path, or of that name ("x", "x.py", "configs/x.py") among those of the package."""
    path = Path(name)
    if path.is_file():
        return path
    for folder in SHIPPED:
        shipped = folder / f"{path.stem}.py"
        if path.parent in (Path("."), Path("configs")) and shipped.is_file():
            return shipped
    near = difflib.get_close_matches(path.stem, names(), n=1)
    hint = f"did you mean {near[0]}?" if near else "`sadist train --help` lists those that come with the package"
    raise BadInput(f"there is no config {name}; {hint}")


def names() -> list[str]:
    """Of the configs that come with the package."""
    return sorted({file.stem for folder in SHIPPED for file in folder.glob("[!_]*.py")})


def load(path: Path) -> ModuleType:
    """Execute a config file. It, and data workers, can import modules beside it and the package's configs."""
    name = f"sadist_config_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BadInput(f"{path} is not a Python file; a config is one, with a function `config() -> Run`")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.extend(str(folder.absolute()) for folder in (path.parent, *SHIPPED) if folder.is_dir())
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise BadInput(f"{path}, line {error.lineno}: {error.msg}; correct it") from None
    except ImportError as error:
        raise BadInput(f"{path} imports what is not there ({error}); install it, or put the file beside it") from None
    if not callable(getattr(module, "config", None)):
        raise BadInput(f"{path} has no function `config() -> Run`; add one, as in the configs of the package")
    import cloudpickle  # grain's; its workers cannot import this module by its name

    cloudpickle.register_pickle_by_value(module)
    return module
