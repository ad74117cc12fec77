"""What a compute target means for images: where a job runs in one unasked, and where nodes keep their own."""

from typing import TYPE_CHECKING

from tensoryard.targets import LOCAL

if TYPE_CHECKING:
    from tensoryard.job import Job
    from tensoryard.slurm_target import SlurmTarget
    from tensoryard.workspace import Workspace


def with_runtime(workspace: "Workspace", job: "Job") -> "Job":
    """
    The job with what it runs in, which its record then says: on clusters of the workspace an image, unless it asks.

    One with packages of conda stays in a virtual environment: images are built without conda.
    """
    azure = workspace.settings().azure
    if job.runtime is not None or job.in_image or job.conda_packages or azure is None:
        return job
    if not isinstance(job.compute_target, str) or job.compute_target not in azure.clusters:
        return job
    import msgspec

    return msgspec.structs.replace(job, runtime="image")


def node_images(workspace: "Workspace", target: "str | SlurmTarget") -> str:
    """
    The folder on each node of a target that it pulls images into; "" where nodes read images from the cache.

    They do where there is no registry, or one that only this machine can reach.
    """
    if target == LOCAL:
        return ""
    settings = workspace.settings()
    if not settings.node_images or not settings.images_below:
        return ""
    from tensoryard.registry.oci_manifest import Place

    return "" if Place(settings.images_below.partition("/")[0], "", "").is_local else settings.node_images
