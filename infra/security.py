"""Security rules of the subnets: what may come in, and nothing else. Pure; network.py declares them."""

from __future__ import annotations

from dataclasses import dataclass

SSH = "22"
NFS = "2049"
SLURMCTLD = "6817"
SLURMD = "6818"
# Where `srun` listens for its steps' output: slurm.conf's SrunPortRange.
SRUN = "60001-63000"


@dataclass(frozen=True, kw_only=True)
class Opening:
    """One rule that lets TCP in. sources, destination: CIDRs; ports: numbers or ranges, "*" for all."""

    name: str
    why: str
    sources: tuple[str, ...]
    destination: str
    ports: tuple[str, ...]


def to_heads(heads: str, nodes: str, head_address: str, ssh_sources: tuple[str, ...]) -> list[Opening]:
    """What may reach the head node. ssh_sources: none means no SSH from outside."""
    openings = [
        Opening(
            name="nodes-to-head",
            why="Nodes register with slurmctld, read the shared folder and send srun their output",
            sources=(nodes,),
            destination=heads,
            ports=(NFS, SLURMCTLD, SRUN),
        )
    ]
    if ssh_sources:
        openings.append(
            Opening(
                name="ssh-from-people",
                why="The networks named in tensoryard:sshSources",
                sources=ssh_sources,
                destination=f"{head_address}/32",
                ports=(SSH,),
            )
        )
    return openings


def to_nodes(heads: str, nodes: str) -> list[Opening]:
    """What may reach the nodes: the head, and one another on any port, for MPI, NCCL and gRPC choose their own."""
    return [
        Opening(
            name="head-to-nodes",
            why="slurmctld starts jobs; srun and administrators reach them from the head",
            sources=(heads,),
            destination=nodes,
            ports=(SSH, SLURMD, SRUN),
        ),
        Opening(
            name="nodes-to-nodes",
            why="MPI, NCCL and TensorFlow's gRPC between the nodes of a job",
            sources=(nodes,),
            destination=nodes,
            ports=("*",),
        ),
    ]


def to_endpoints(heads: str, nodes: str, endpoints: str) -> list[Opening]:
    """What may reach the private endpoints of storage, registry and vault."""
    return [
        Opening(
            name="machines-to-endpoints",
            why="Head and nodes call storage, registry and vault over TLS",
            sources=(heads, nodes),
            destination=endpoints,
            ports=("443",),
        )
    ]
