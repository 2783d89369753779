"""Config files: Python files with `config() -> Run`; those that come with the package are found by name.

`config` may have parameters of a Literal type: "sami_ti:full1024" is `config("full1024")` of sami_ti.py.
"""

import difflib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from sadist_jax.errors import BadInput

if TYPE_CHECKING:
    from sadist_jax.train.run import Run

_ROOT = Path(__file__).parents[1]
SHIPPED = (_ROOT / "configs", _ROOT.parent / "configs")  # in the wheel, in a checkout


def make(name: str) -> tuple[Any, ModuleType, Path]:
    """(what `config` returns, the executed file, its path) of a config as a user names it, with values after colons."""
    file, *values = name.split(":")
    path = find(file)
    module = load(path)
    accepted = choices(module)
    if len(values) > len(accepted) or any(v not in known for v, known in zip(values, accepted, strict=False)):
        forms = "".join(f":{{{','.join(known)}}}" for known in accepted)
        raise BadInput(f"there is no {name}; {path} is named {path.stem}{f' or {path.stem}{forms}' if forms else ''}")
    return module.config(*values), module, path


def make_run(name: str) -> tuple["Run", ModuleType, Path]:
    """As `make`. Raises BadInput where `config` returns something else than a run."""
    from sadist_jax.train.run import Run  # JAX, which listing the configs can do without

    run, module, path = make(name)
    if not isinstance(run, Run):
        raise BadInput(f"config() of {path} returns {type(run).__name__}; it must return a sadist_jax.train.run.Run")
    return run, module, path


def choices(module: ModuleType) -> list[tuple[str, ...]]:
    """The values that each parameter of a file's `config` takes, where its type is a Literal; others are for code."""
    hints = get_type_hints(module.config)
    given = [hints[name] for name in inspect.signature(module.config).parameters if name in hints]
    return [get_args(hint) for hint in given if get_origin(hint) is Literal]


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
