"""`tyard schema`: what an editor needs to check and complete job.yaml."""

import click


@click.command()
def schema() -> None:
    """
    Print the JSON Schema of job.yaml.

    Editors with a YAML language server check and complete a job that begins with the line
    `# yaml-language-server: $schema=job.schema.json`.

    \b
    Examples:
      tyard schema > job.schema.json
      tyard schema | jq '.["$defs"].Job.properties | keys'
    """
    from tensoryard.cli.tables import print_json
    from tensoryard.job_schema import job_schema

    print_json(job_schema())
