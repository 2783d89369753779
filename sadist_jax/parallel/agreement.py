"""All hosts run the same: configuration, code, versions and devices are compared before the first step.

Hosts that differ would compile different programs, and then wait for each other for ever, or add up what does not
belong together.
"""

import collections
import hashlib
import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

import sadist_jax
from sadist_jax.errors import ClusterProblem
from sadist_jax.parallel import devices, hosts

PACKAGES = "jax", "jaxlib", "numpy", "optax", "flax", "orbax-checkpoint", "grain"
SETTINGS = "jax_enable_x64", "jax_default_matmul_precision", "jax_default_prng_impl", "jax_threefry_partitionable"
_LISTED = 5  # how many processes, and how many differences, a sentence names
_LONGEST = 60  # characters of a value in a sentence

Facts = Mapping[str, str]


def facts(config: Any = None) -> dict[str, str]:
    """{name: value} of what must be the same on every host: code, versions, devices, settings, fields of the run.

    config: the run as JSON holds it; which process this is (`hosts`) is left out.
    """
    local = devices.own()
    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if not flag.startswith("--xla_dump_to")]
    found = {"sadist_jax": sadist_jax.__version__, "code": _code(), "python": platform.python_version()}
    found |= {name: _version(name) for name in PACKAGES}
    found |= {"devices": f"{len(local)} x {local[0].device_kind}", "XLA_FLAGS": " ".join(sorted(flags))}
    found |= {name: str(getattr(jax.config, name, None)) for name in SETTINGS}
    fields = {name: value for name, value in (config or {}).items() if name != "hosts"}
    return found | dict(_fields("", fields))


def check(facts: Facts) -> None:
    """Compare with the other processes. Collective.

    Raises:
      ClusterProblem: they differ; names who, in what, and both values. It is the same sentence on every process.
    """
    check_devices()
    digest = hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()
    if len(set(hosts.gather_text(digest))) > 1:
        told = [json.loads(text) for text in hosts.gather_text(json.dumps([platform.node(), dict(facts)]))]
        raise ClusterProblem(f"{difference(told)}; start all of them with the same command, code and packages")


def check_devices() -> None:
    """Raises ClusterProblem, on every process, where one has fewer devices: nothing can be gathered among these.

    And BadInput where those of this process do not start.
    """
    number = collections.Counter(device.process_index for device in devices.every())
    sentence = difference([("", {"number of devices": str(number[process])}) for process in range(hosts.count())])
    if sentence is not None:
        raise ClusterProblem(f"{sentence}; a device may be broken, or taken by another program")


def difference(told: Sequence[tuple[str, Facts]]) -> str | None:
    """Who differs from most of the others, or from process 0 where there is no majority; None where all agree.

    told: (host, facts) of every process, in their order.
    """
    groups: dict[str, list[int]] = {}
    for process, (_, theirs) in enumerate(told):
        groups.setdefault(json.dumps(dict(theirs), sort_keys=True), []).append(process)
    usual = max(groups.values(), key=len)  # of equal ones the first, which has process 0
    if len(usual) == len(told):
        return None
    odd = [group for group in groups.values() if group is not usual]
    return "; ".join(_sentence(told, group, usual) for group in odd[:_LISTED])


def _sentence(told: Sequence[tuple[str, Facts]], odd: Sequence[int], usual: Sequence[int]) -> str:
    here, there = told[odd[0]][1], told[usual[0]][1]
    names = [name for name in {**there, **here} if here.get(name) != there.get(name)]
    named = [f"{name} is {_short(here.get(name))}, not {_short(there.get(name))}" for name in names[:_LISTED]]
    more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{_who(told, odd)} differs from {_who(told, usual)}: {', '.join(named)}{more}"


def _who(told: Sequence[tuple[str, Facts]], processes: Sequence[int]) -> str:
    named = [f"{i} (on {told[i][0]})" if told[i][0] else str(i) for i in processes[:_LISTED]]
    more = f" and {len(processes) - _LISTED} more" if len(processes) > _LISTED else ""
    return f"process {', '.join(named)}{more}"


def _short(value: str | None) -> str:
    value = "missing" if value is None else value or "empty"
    return value if len(value) <= _LONGEST else f"{value[: _LONGEST - 3]}..."


def _fields(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """("optim.lr", "0.0003") for every field below, and the places of lists as numbers."""
    if isinstance(value, Mapping | list):
        parts = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, part in parts:
            yield from _fields(f"{name}.{key}" if name else str(key), part)
    else:
        yield name, re.sub(r" at 0x[0-9a-f]+", "", json.dumps(value))  # where an object lies is no difference


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _code() -> str:
    """Digest of the package's Python files."""
    root, total = Path(sadist_jax.__file__).parent, hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        total.update(file.relative_to(root).as_posix().encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:12]
