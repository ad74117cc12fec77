"""job.yaml as people get it wrong: every message whole, since it is all that they see."""

from pathlib import Path

import pytest

from job_folders import START, fails, source_folder
from launching import Yard
from tensoryard.errors import TensoryardError, UsageError
from tensoryard.job_file import load_job, placed
from tensoryard.submit import submit

TRAINING_HINT = (
    "for example `distributed_training: mpi`, or "
    "`distributed_training: {parameter_server: {worker_count: 2, parameter_server_count: 1}}`; "
    "leave it out for one process"
)
SCRIPTS = "the folder holds `link.py`, `train.py`"
TRAINING = "`mpi`, `multi_worker_mirrored` or `parameter_server: {...}`"

# text of job.yaml, message after the file's name, hint
WRONG: list[tuple[str | bytes, str, str | None]] = [
    ("", ": the field `entry_script` is missing", "add `entry_script: ...`"),
    ("# nothing\n", ": the field `entry_script` is missing", "add `entry_script: ...`"),
    ("- a", ": got a list, a job is a mapping of fields such as `entry_script: train.py`", None),
    ("train.py", ": got text, a job is a mapping of fields such as `entry_script: train.py`", None),
    ("a: [", ": line 1: is not YAML: expected the node content, but found '<stream end>'", None),
    (
        "a:\n\tb: 1",
        ": line 2: is not YAML: found character '\\t' that cannot start any token",
        "indent with blanks, not with tabs",
    ),
    (START + "tags: {a: \x01}", ": line 2: got the character '\\x01', which YAML does not allow", None),
    (b"a: 1\nb: \xff", ": line 2: got the byte 0xff, which is not UTF-8", "save the file as UTF-8"),
    ("a: &a [*a]", ": an alias refers to itself", None),
    (START + "entry_script: b.py", ": line 2: `entry_script` is given twice", None),
    (START + "tags: {a: 1,\n  a: 2}", ": line 3: `a` is given twice", None),
    (START + "? [a]\n: b", ": line 2: got a list as the name of a field", None),
    (START + "node_cout: 2", ": line 2: unknown field `node_cout`", "did you mean `node_count`?"),
    (START + "nodes: 2", ": line 2: unknown field `nodes`", "did you mean `node_count`?"),
    (
        START + "epocs: 2\nscript_params: {--epochs: 1}",
        ": line 2: unknown field `epocs`",
        "did you mean `script_params.--epochs`?",
    ),
    (START + "node_count: two", ": line 2: node_count: got `two`, expected a whole number", None),
    (START + "node_count: 2.5", ": line 2: node_count: got `2.5`, expected a whole number", None),
    (START + "node_count:", ": line 2: node_count: got nothing, expected a whole number", None),
    (START + "node_count: -1", ": line 2: node_count: got `-1`, expected a whole number, at least 1", None),
    (START + "use_gpu: maybe", ": line 2: use_gpu: got `maybe`, expected true or false", None),
    (START + "experiment: yes", ": line 2: experiment: got `yes`, expected text", 'put it in quotes: "yes"'),
    (
        START + "experiment: 2024-01-31",
        ": line 2: experiment: got `2024-01-31`, expected text",
        'put it in quotes: "2024-01-31"',
    ),
    (
        START + "experiment: my runs",
        ": line 2: experiment: got `my runs`, allowed are 1 to 63 letters, digits, `.`, `_` and `-`, "
        "the first a letter or digit, the last no dot",
        None,
    ),
    (
        START + "pip_packages: numpy",
        ": line 2: pip_packages: got `numpy`, expected a list",
        "write it as a list: [numpy]",
    ),
    (
        START + "pip_packages: [six,\n  1]",
        ": line 3: pip_packages[1]: got `1`, expected text",
        'put it in quotes: "1"',
    ),
    (START + "tags: x", ": line 2: tags: got `x`, expected a mapping of `name: value`", None),
    (START + "script_params: [a]", ": line 2: script_params: got a list, expected a mapping of `name: value`", None),
    (
        START + "script_params:\n  --a: 1\n  --b: [1]",
        ": line 4: script_params.--b: got a list, expected text, a number, nothing or "
        "`{datastore: default, path: ...}`",
        None,
    ),
    (
        START + "script_params:\n  --data: {datastor: default}",
        ": line 3: unknown field `datastor`",
        "did you mean `datastore`?",
    ),
    (
        START + "script_params:\n  --data: {path: mnist}",
        ": line 3: script_params.--data: the field `datastore` is missing",
        "add `datastore: ...`",
    ),
    (
        START + "script_params:\n  --data: {datastore: blob, path: mnist}",
        ": line 3: script_params: --data: got datastore `blob`, this workspace has `default`",
        None,
    ),
    (
        START + "inputs: {a: {datastore: default, path: ../x}}",
        ": line 2: inputs: a: got path `../x`, it must be relative to the datastore",
        None,
    ),
    (START + "inputs: {a: x}", ": line 2: inputs.a: got `x`, expected `{datastore: default, path: ...}`", None),
    (
        START + "inputs: {a: {datastore: default, mode: copy}}",
        ": line 2: inputs.a.mode: got `copy`, expected `mount` or `download`",
        None,
    ),
    (
        START + "inputs: {a: {datastore: default}, A: {datastore: default}}",
        ": line 2: inputs: `a` and `A` would both be TYARD_INPUT_A",
        None,
    ),
    (
        START + "environment_variables: {A: null}",
        ": line 2: environment_variables.A: got nothing, expected text",
        'an empty text is written ""',
    ),
    (
        START + "environment_variables: {my-var: 1}",
        ": line 2: environment_variables: got the name `my-var`, allowed are letters, digits and `_`, "
        "the first no digit",
        None,
    ),
    (
        START + "environment_variables: {TYARD_TASK: 1}",
        ": line 2: environment_variables: got the name `TYARD_TASK`, which cannot be set: names with `TYARD_` "
        "are Tensoryard's",
        None,
    ),
    (
        'entry_script: "a\\0b"',
        ": line 1: entry_script: got 'a\\x00b', but '\\x00' is a character that no process can be given",
        None,
    ),
    (
        START + 'tags: {a: "\\ud800"}',
        ": line 2: tags: got '\\ud800', but '\\ud800' is a character that no process can be given",
        None,
    ),
    (
        "entry_script: ../train.py",
        ": line 1: entry_script: got `../train.py`, it must be a path inside source_directory",
        "set `source_directory` to the folder that holds the script, and name the script from there",
    ),
    (
        "entry_script: /etc/passwd",
        ": line 1: entry_script: got `/etc/passwd`, it must be a path inside source_directory",
        "set `source_directory` to the folder that holds the script, and name the script from there",
    ),
    (
        "entry_script: trian.py",
        ": line 1: entry_script: `trian.py` is not a file in `{folder}`",
        SCRIPTS,
    ),
    (
        "entry_script: folder",
        ": line 1: entry_script: `folder` is not a file in `{folder}`",
        SCRIPTS,
    ),
    ("entry_script: link.py", ": line 1: entry_script: `link.py` is a link to a file outside of `{folder}`", None),
    (START + "source_directory: gone", ": line 2: source_directory: `{folder}/gone` is not a folder", None),
    (
        START + "distributed_training: horovod",
        f": line 2: distributed_training: got `horovod`, expected {TRAINING}",
        TRAINING_HINT,
    ),
    (
        START + "distributed_training: parameter_server",
        f": line 2: distributed_training: got `parameter_server`, expected {TRAINING}",
        TRAINING_HINT,
    ),
    (
        START + "distributed_training:\n  parameter_server:\n    worker_count: 0",
        ": line 4: distributed_training.parameter_server.worker_count: got `0`, expected a whole number, at least 1",
        None,
    ),
    (
        START + "distributed_training: {parameter_server: {workers: 2}}",
        ": line 2: unknown field `workers`",
        "did you mean `worker_count`?",
    ),
    (
        START + "node_count: 2",
        ": line 2: node_count: got 2 nodes of 1 processes, but without distributed_training a job is one process "
        "on one node",
        "set `distributed_training` to mpi, parameter_server or multi_worker_mirrored",
    ),
    (
        START
        + "distributed_training: {parameter_server: {worker_count: 3}}\nnode_count: 2\nprocess_count_per_node: 2",
        ": line 2: distributed_training: 5 tasks (1 chief, 3 worker, 1 ps) do not fit 4 slots "
        "(node_count 2 x process_count_per_node 2)",
        "set `process_count_per_node` to 3, or `node_count` to 3",
    ),
    (
        START + "distributed_training: {parameter_server: {}}\nnode_count: 4",
        ": line 3: node_count: got 4, but there are only 3 tasks to place",
        "set `node_count` to 3 or less",
    ),
    (
        START + "distributed_training: mpi\nnode_count: 1000000000",
        ": line 2: distributed_training: got 1000000000 tasks, at most 10000 can be launched",
        None,
    ),
    (
        START + "max_run_duration_seconds: 0",
        ": line 2: max_run_duration_seconds: got `0`, expected a whole number, at least 1",
        None,
    ),
]

# Found when the job is submitted or rendered: versions, data, targets.
WRONG_LATER: list[tuple[str, str, str | None]] = [
    (
        START + "distributed_training: mpi\nframework_version: 2.21",
        "{file}: line 3: framework_version: got 2.21, but Horovod 0.28.1, its last release, works up to "
        "TensorFlow 2.15: later ones lack a header it is compiled with, and its callbacks need Keras 2",
        "leave `framework_version` out for 2.15, or use `distributed_training: multi_worker_mirrored`",
    ),
    (
        START + "framework_version: 1.15",
        "{file}: line 2: framework_version: got 1.15, allowed are TensorFlow 2.12 to 2.21, as a release "
        "(`2.15`) or with its fix (`2.15.1`)",
        None,
    ),
    (
        START + "framework_version: 2.15\npython_version: 3.13",
        "{file}: line 3: python_version: got 3.13, TensorFlow 2.15 has wheels for Python 3.9 to 3.11",
        "leave `python_version` out for 3.11",
    ),
    (
        START + "compute_target: gpu",
        "{file}: line 2: compute_target: got `gpu`, this workspace has `local`",
        "leave `compute_target` out for this machine",
    ),
    (
        START + "compute_target: locl",
        "{file}: line 2: compute_target: got `locl`, this workspace has `local`",
        "did you mean `local`?",
    ),
    (
        START + "pip_packages:\n  - six\n  - numpy=1.10",
        "{file}: line 4: pip_packages: got `numpy=1.10`, allowed is one requirement, such as `numpy`, "
        "`numpy>=1.26,<3`, `pillow[extra]==11.0` or `name @ https://host/name-1.0-py3-none-any.whl`",
        "did you mean `numpy==1.10`?",
    ),
    (
        START + "script_params: {--data: {datastore: default, path: mnist}}",
        "{file}: line 2: script_params: --data: there is no `mnist` in the datastore `default`",
        "`tyard data upload FOLDER mnist` puts a folder there, `tyard data list` shows what is there, "
        "`tyard data fetch --help` has data sets to start with",
    ),
    (
        START + "resume_from: other-0007",
        "{file}: line 2: resume_from: there is no run `other-0007`",
        "there are no runs here yet; `tyard run job.yaml` makes one",
    ),
    (
        START + "pip_requirements_file: requirements.txt",
        "{file}: line 2: pip_requirements_file: `requirements.txt` is not a file in `{folder}`",
        None,
    ),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return source_folder(tmp_path)


@pytest.mark.parametrize(("text", "message", "hint"), WRONG, ids=[str(text)[-40:] for text, _, _ in WRONG])
def test_what_is_wrong_with_a_job_file_is_said(
    folder: Path, text: str | bytes, message: str, hint: str | None
) -> None:
    path = folder / "job.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    error = fails(path)
    assert str(path) + message.replace("{folder}", str(folder)) == error.message
    assert hint == error.hint
    assert isinstance(error, UsageError)


@pytest.mark.parametrize(("text", "message", "hint"), WRONG_LATER, ids=[text[-40:] for text, _, _ in WRONG_LATER])
def test_nothing_is_created_for_a_job_that_cannot_run(
    yard: Yard, folder: Path, text: str, message: str, hint: str | None
) -> None:
    path = folder / "job.yaml"
    path.write_text(text)
    (folder / "link.py").unlink()
    with pytest.raises(TensoryardError) as caught, placed(path):
        submit(yard.workspace, load_job(path), print)
    assert message.replace("{folder}", str(folder)).replace("{file}", str(path)) == caught.value.message
    assert hint is None or hint == caught.value.hint
    assert not yard.workspace.root.exists()
