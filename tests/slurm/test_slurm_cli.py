"""The command line from a login node: `tyard run` on a real Slurm, with the controller that it forks."""

from cli_runner import Tyard
from services.slurm import SlurmCluster

SAYS = "import os; print('trained on', os.uname().nodename); open('outputs/model', 'w').write('weights')"


def test_a_job_runs_on_slurm_from_its_file_to_its_outputs(slurm: SlurmCluster, cli: Tyard) -> None:
    cli.environ |= {"SLURM_CONF": slurm.environ["SLURM_CONF"]}
    cli.job(SAYS, compute_target={"slurm": {"partition": "main", "time": "10"}})
    out = cli("run")
    run = out.split()[1]
    assert "trained on node-" in out
    assert "Completed" in out
    assert "outputs/model" in cli("runs", "files", run)
    job = cli.record(run).slurm_job()
    assert f"slurm job    {job}\n" in cli("runs", "show", run)
    assert f"JobName={run}" in slurm.run("scontrol", "show", "job", str(job))


def test_a_target_of_the_command_line_replaces_that_of_the_file(slurm: SlurmCluster, cli: Tyard) -> None:
    cli.environ |= {"SLURM_CONF": slurm.environ["SLURM_CONF"]}
    cli.job(SAYS)
    out = cli("run", "--set", "compute_target.slurm.partition=gpu")
    assert "trained on node-3" in out


def test_render_shows_the_script_that_slurm_gets(slurm: SlurmCluster, cli: Tyard) -> None:
    cli.environ |= {"SLURM_CONF": slurm.environ["SLURM_CONF"]}
    cli.job(SAYS, compute_target={"slurm": {"time": "1:00:00", "extra_directives": ["--comment=mine"]}})
    shown = cli("render")
    assert "#SBATCH --time=1:00:00\n" in shown
    assert "#SBATCH --comment=mine\n" in shown


def test_what_cannot_be_is_refused_with_the_line_of_the_file(slurm: SlurmCluster, cli: Tyard) -> None:
    cli.environ |= {"SLURM_CONF": slurm.environ["SLURM_CONF"]}
    cli.job(SAYS, compute_target={"slurm": {"partition": "mian"}})
    _, talk = cli.both("run", code=2)
    assert talk.startswith("error: job.yaml: line 1: compute_target: slurm: invalid partition specified: mian")
    assert "there is `main`: " in talk
    assert "hint: did you mean the partition `main`?" in talk
