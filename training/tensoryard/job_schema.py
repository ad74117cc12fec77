"""The JSON Schema of job.yaml: that of `Job`, as the YAML that `job_file` accepts."""

from typing import Any

import msgspec

from tensoryard.job import Job

# A version written without quotes is a number to YAML and to an editor; `job_file` reads it as text.
_SCALARS = ("string", "number", "boolean")
_TEXT_MAPPINGS = ("environment_variables", "tags")
_VERSIONS = ("framework_version", "python_version")
_TITLES = {
    "Job": "A Tensoryard job",
    "DatastoreReference": "Data of a datastore",
    "ParameterServerTraining": "Training with parameter servers",
    "ParameterServer": "Who takes part",
    "SlurmTarget": "A Slurm cluster",
    "SlurmOptions": "What sbatch is asked",
}


def job_schema() -> dict[str, Any]:
    """The schema, with every field's description, default and allowed values; draft 2020-12."""
    made = msgspec.json.schema(Job)
    definitions = made["$defs"]
    for name, title in _TITLES.items():
        definitions[name]["title"] = title
        # The rest of a docstring is for who reads the code.
        definitions[name]["description"] = definitions[name].get("description", f"{title}.").partition("\n")[0]
    job = definitions["Job"]
    # The folder's name is the default.
    job["required"] = [name for name in job["required"] if name != "experiment"]
    fields = job["properties"]
    for name in _VERSIONS:
        fields[name]["anyOf"].append({"type": "number"})
    for name in _TEXT_MAPPINGS:
        fields[name]["additionalProperties"] = {"type": list(_SCALARS)}
    fields["script_params"]["additionalProperties"]["anyOf"].append({"type": "boolean"})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": _TITLES["Job"], **made}
