"""Plans of the toy run on eight simulated devices, in this process; one on a TPU where libtpu is installed."""

import dataclasses
import importlib.util
import math
import re
import types

import jax
import pytest

from sadist_jax import cli
from sadist_jax.cli import _plan_tpu
from sadist_jax.parallel import absent, kinds
from sadist_jax.parallel import mesh as meshes
from sadist_jax.parallel.collectives import Shape
from sadist_jax.parallel.mesh import MeshSpec
from sadist_jax.parallel.shard import ShardSpec
from sadist_jax.train import forecast, program, work
from tests.train.toy import toy_run

CONFIG = '''"""A toy, whose data are not there."""

import dataclasses

from sadist_jax.data.folder import Folder
from sadist_jax.parallel.shard import ShardSpec
from tests.train.toy import toy_run


def config():
    run = toy_run({out!r}, shard=ShardSpec(min_size=64))
    return dataclasses.replace(run, data=dataclasses.replace(run.data, source=Folder("nowhere")))
'''


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "toy.py"
    path.write_text(CONFIG.format(out=str(tmp_path / "out")))
    return path


def fails(capsys, *argv) -> str:
    """Exit code 2 and one line on stderr."""
    assert cli.main(["plan", *map(str, argv)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_plan_says_what_will_be(config, tmp_path, capsys):
    argv = ["plan", str(config), "--devices", "8", "--kind", "h100", "--per-node", "4", "--mesh.fsdp", "8"]
    assert cli.main([*argv, "--steps", "3600", "--global-batch", "16"]) == 0
    out = capsys.readouterr().out
    assert "toy on 8 x h100 in 2 node(s) of up to 4\n" in out
    assert "mesh {'data': 1, 'fsdp': 8, 'tensor': 1}, 16 samples a step, 2 a device" in out
    assert re.search(r"total +0\.\d+ +of 79.60, 59.70 usable as JAX takes 75% at its start: fits", out)
    assert re.search(r"all-reduce +\d", out)
    step, rate, hours = re.search(
        r"step +(\S+) ms  the largest: (\S+) images/s; 3,600 steps take (\S+) hours", out
    ).groups()
    assert float(rate.replace(",", "")) == pytest.approx(16e3 / float(step), rel=0.01)
    assert float(hours) == pytest.approx(float(step) / 1e3, rel=0.01)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def laid():
    return program.trace(toy_run("never", global_batch=16), jax.devices()[:8], kinds.find("h100"))


@pytest.fixture(scope="module")
def found(laid):
    return program.compiled_by_cpu(laid)


def test_memory_is_the_compilers(laid, found):
    job = laid.job
    held = [
        leaf.dtype.itemsize * math.prod(leaf.sharding.shard_shape(leaf.shape))
        for leaf in jax.tree.leaves((job.template, job.frozen))
    ]
    rows = 2 * (4 * 3 * 4 + 4 * 3 + 4 + 4)  # x, real, weight, index
    assert found.memory.arguments == rows + sum(held)
    own = job.step.lower(job.template, job.frozen, program.batch(toy_run("never", global_batch=16), job.rows))
    analysis = own.compile(compiler_options=program.CPU_OPTIONS).memory_analysis()
    assert found.memory.temporaries == analysis.temp_size_in_bytes
    assert found.memory.results == analysis.output_size_in_bytes - analysis.alias_size_in_bytes


def test_operations_are_the_formulas(laid):
    """The student's net on noisy points twice, the teacher's and the average's; two ways back through each of the
    student's, as the positions before its first layer learn too."""
    net = 2 * 16 * 3 * (4 * 16 + 16 * 16 + 16 * 2)
    assert work.count(laid.traced.jaxpr).flops == 8 * net
    assert program.share_of_one(toy_run("never", global_batch=16), laid, kinds.find("h100")).flops == net


def test_gradients_are_summed_over_all_devices(found):
    """2 (n - 1) / n of their bytes, and little else; the compiler may sum the gradients of the student's uses apart."""
    parameters = 4 + 4 * 16 + 16 + 16 * 16 + 16 + 16 * 2 + 1
    total = forecast.flows(found.collectives, 8)["all-reduce"]
    assert total.across == 0
    once = 2 * 7 / 8 * 4 * parameters
    assert once <= total.inside <= 2 * once + 200  # a few numbers for the log


def test_the_mesh_is_what_the_real_devices_would_choose():
    """Which say how much memory they have, and where their nodes end."""
    small = dataclasses.replace(kinds.find("h100"), usable=1000, node=4)
    run = toy_run("never", shard=ShardSpec(min_size=16))
    assert dict(program.trace(run, jax.devices()[:8], small).job.mesh.shape)["fsdp"] == 4


def test_bfloat16_is_sent_as_such():
    """The CPU compiler would send float32: a product whose terms lie on different devices."""
    cut = jax.sharding.NamedSharding(
        meshes.make(MeshSpec(), jax.devices()[:8]), jax.sharding.PartitionSpec(None, "data")
    )
    whole = jax.sharding.NamedSharding(cut.mesh, jax.sharding.PartitionSpec())
    product = jax.jit(lambda x: x @ x.T, in_shardings=cut, out_shardings=whole)
    laid = program.Laid(types.SimpleNamespace(mesh=cut.mesh), product.trace(jax.ShapeDtypeStruct((32, 64), "bfloat16")))
    (one,) = program.compiled_by_cpu(laid).collectives
    assert (one.kind, one.results) == ("all-reduce", (Shape("bf16", (32, 32)),))


def test_bad_input_is_one_sentence(config, capsys, monkeypatch):
    plan = [config, "--devices", "8"]
    assert "--kind h1000 is not known; did you mean h100?" in fails(capsys, *plan, "--kind", "h1000")
    assert "there are v5e, v5p, v6e, a100, h100, h200" in fails(capsys, *plan, "--kind", "xyz")
    h100 = [config, "--kind", "h100", "--devices"]
    assert "--devices 0: give 1 or more" in fails(capsys, *h100, "0")
    assert "global_batch = 12 does not fit 8 device(s)" in fails(capsys, *h100, "8", "--global-batch", "12")
    assert "mesh.fsdp = 3 does not fit 8 device(s)" in fails(capsys, *h100, "8", "--mesh.fsdp", "3")
    assert "--efficiency 40.0: give a share" in fails(capsys, *h100, "8", "--efficiency", "40")
    assert "plan in a process of its own" in fails(capsys, *h100, "64", "--global-batch", "64")
    tpu = [config, "--kind", "v5e", "--devices"]
    assert "slices of v5e have 1, 4, 8, 16, 32, 64, 128, 256 devices" in fails(capsys, *tpu, "6")
    monkeypatch.setattr(absent.importlib.util, "find_spec", lambda name: None)
    assert "install sadist_jax[plan], or estimate without it by --compiler cpu" in fails(capsys, *tpu, "8")


def test_kinds_are_what_makers_say():
    """A rate of bandwidth to peak that a card or chip of its generation has: a slip of the unit would leave it."""
    for kind in kinds.KINDS.values():
        assert 100 < kind.peak / kind.bandwidth < 700
        assert kind.bandwidth > kind.inner > (kind.outer or 0)
        assert 14e9 < kind.usable < 115e9
    assert kinds.find("h100").usable == pytest.approx(0.75 * 81559 * 2**20, rel=1e-3)  # MiB that nvidia-smi shows


@pytest.mark.processes
def test_many_devices_in_a_process_of_its_own(config):
    import subprocess
    import sys

    argv = [sys.executable, "-m", "sadist_jax", "plan", str(config), "--devices", "64", "--kind", "v5e"]
    argv += ["--compiler", "cpu", "--global-batch", "64"]
    out = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120).stdout
    assert "toy on 64 x v5e in 1 node(s) of up to 256\nmesh {'data': 64, 'fsdp': 1, 'tensor': 1}" in out


@pytest.mark.processes
def test_libtpu_has_a_limit(config):
    found, why = _plan_tpu.ask(str(config), kinds.find("v5e"), 8, [], 0.01)
    assert found is None
    assert "libtpu was not done after 0.01 s" in why


@pytest.mark.processes
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu: pip install sadist_jax[plan]")
def test_a_tpu_that_is_not_there(config, capsys):
    assert cli.main(["plan", str(config), "--devices", "8", "--kind", "v5e", "--limit", "200"]) == 0
    out = capsys.readouterr().out
    assert "compiled by libtpu" in out
    assert re.search(r"all-reduce +\d", out)
