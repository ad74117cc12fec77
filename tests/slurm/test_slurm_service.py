"""The tests' own cluster: what it must be for the other tests to mean something."""

from services.slurm import SlurmCluster


def test_a_job_runs_on_nodes_with_names_networks_and_processes_of_their_own(slurm: SlurmCluster) -> None:
    script = "echo $(hostname) $(ip -4 -brief addr show eth0 | wc -l) $(cat /proc/1/comm)"
    said = slurm.run("srun", "--nodes=3", "sh", "-c", script).splitlines()
    assert sorted(line.split()[0] for line in said) == ["node-1", "node-2", "node-3"]
    assert {line.split()[1] for line in said} == {"1"}
    assert {line.split()[2] for line in said} == {"slurmd"}


def test_pmix_joins_ranks_of_two_nodes(slurm: SlurmCluster) -> None:
    said = slurm.run("srun", "--mpi=pmix", "--nodes=2", "--ntasks=2", "sh", "-c", "echo $PMIX_RANK of $SLURM_NTASKS")
    assert sorted(said.splitlines()) == ["0 of 2", "1 of 2"]
