"""Runs in an image on a real Slurm by a user who is not root: with Debian's real Open MPI between two nodes."""

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launching import Yard, wait_until
from services.images import SIX, OneImage, mounts_of
from services.slurm import SlurmCluster
from tensoryard.environment import Environment, ImageSpec
from tensoryard.environment.image_builder import ImageBuilder
from tensoryard.environment.venv import VenvBuilder
from tensoryard.slurm_target import SlurmOptions, SlurmTarget

IN_IMAGE: dict[str, Any] = {"compute_target": SlurmTarget(SlurmOptions()), "runtime": "image"}
USER = pwd.getpwnam("games")  # whom every Debian has
SUBMITS = f"""#!/bin/sh
exec {shutil.which("sbatch")} --uid={USER.pw_uid} --gid={USER.pw_gid} "$@"
"""
SAY_WHO = """
import os
print("user", os.getuid(), "on", os.uname().nodename, "has Open MPI:", os.path.exists("/usr/bin/mpirun"))
open("outputs/mine", "w").close()
"""
# By MPI's own functions, as Horovod calls them. So many numbers go from one process's memory to the other's.
REDUCES = """
import ctypes, os
COUNT = 500_000
mpi = ctypes.CDLL("libmpi.so.40", ctypes.RTLD_GLOBAL)
of_mpi = lambda name: ctypes.byref(ctypes.c_char.in_dll(mpi, name))
rank, size, world = ctypes.c_int(), ctypes.c_int(), of_mpi("ompi_mpi_comm_world")
mpi.MPI_Init(None, None)
mpi.MPI_Comm_rank(world, ctypes.byref(rank))
mpi.MPI_Comm_size(world, ctypes.byref(size))
mine, sums = (ctypes.c_int * COUNT)(*[10 ** rank.value] * COUNT), (ctypes.c_int * COUNT)()
mpi.MPI_Allreduce(mine, sums, COUNT, of_mpi("ompi_mpi_int"), of_mpi("ompi_mpi_op_sum"), world)
mpi.MPI_Finalize()
print(rank.value, "of", size.value, "on", os.uname().nodename, "by", os.getuid(), {*sums})
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's own, which nobody else may enter; whatever is made in it everybody may change."""
    folder = Path(tempfile.mkdtemp(prefix="tyard-user-", dir="/tmp"))
    folder.chmod(0o755)
    before = os.umask(0)
    yield folder
    os.umask(before)
    shutil.rmtree(folder)


@pytest.fixture
def image(kept_registry: str, folder: Path) -> Environment:
    """A base with Open MPI, just as it is."""
    named = ImageSpec(existing=f"{kept_registry}/base:openmpi")
    image = ImageBuilder(VenvBuilder(folder / "cache"), "").ensure_recipe(SIX, named, print)
    # Outside: Debian's own Python, as that of the tests may lie in a folder of root's.
    python = Path(image.unpacked) / "bin" / "python"
    python.unlink()
    python.symlink_to("/usr/bin/python3")
    return image


@pytest.fixture
def yard(folder: Path, image: Environment, monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    """Whose jobs are that user's."""
    (folder / "bin").mkdir()
    (folder / "bin" / "sbatch").write_text(SUBMITS)
    (folder / "bin" / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    yard = Yard(folder)
    plain = yard.controller
    monkeypatch.setattr(yard, "controller", lambda: plain(builder=OneImage(image)))
    yield yard
    yard.close()


def test_ranks_of_a_plain_user_reduce_over_two_nodes_in_the_image(
    slurm: SlurmCluster, yard: Yard, image: Environment
) -> None:
    alone = yard.run(SAY_WHO, **IN_IMAGE)
    assert (alone.state().stage, alone.state().reason) == ("Completed", None)
    assert yard.log(alone) == f"user {USER.pw_uid} on node-1 has Open MPI: True\n"
    run = yard.run(REDUCES, distributed_training="mpi", node_count=2, process_count_per_node=2, **IN_IMAGE)
    assert (run.state().stage, run.state().reason) == ("Completed", None)
    assert "Launching by mpirun inside of the allocation" in yard.log(run, "launch")
    said = [yard.log(run, f"rank-{number}") for number in range(4)]
    nodes = [1, 1, 2, 2]
    assert said == [f"{rank} of 4 on node-{nodes[rank]} by {USER.pw_uid} {{1111}}\n" for rank in range(4)]
    assert yard.leftovers(run) == []
    wait_until(lambda: not mounts_of(image), "nothing of the image is mounted")
