"""What runs used of a cluster: node-seconds, and money where a node's price is known. From their records alone."""

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from tensoryard.run import RunState
    from tensoryard.settings import AzureCluster

_HOUR_S = 3600


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """
    What one or more runs used.

    node_seconds: for which nodes were theirs; usd: lowest and highest, of list prices, None where a price is missing.
    """

    node_seconds: float
    usd: tuple[float, float] | None


def run_cost(state: "RunState", nodes: int, cluster: "AzureCluster | None" = None, now: float | None = None) -> Cost:
    """
    What a run has used so far: the time in Running, once for each of its nodes and each time it ran.

    Waiting and preparing use no node, and a machine that starts or idles is nobody's. cluster: what the workspace
    says of the target; now: seconds since the epoch, for a run that still runs.
    """
    moment = time.time() if now is None else now
    seconds = sum(
        max(0.0, (span.ended_at if span.ended_at is not None else moment) - span.started_at)
        for span in state.stages
        if span.stage == "Running"
    )
    used = seconds * nodes
    price = cluster.hourly_usd if cluster is not None else None
    return Cost(node_seconds=used, usd=_usd(used, price))


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of costs; its price is of those that have one, None when none has."""
    all_costs = [*costs]
    priced = [cost.usd for cost in all_costs if cost.usd is not None]
    usd = (sum(low for low, _ in priced), sum(high for _, high in priced)) if priced else None
    return Cost(node_seconds=sum(cost.node_seconds for cost in all_costs), usd=usd)


def cluster_of_target(target: object, clusters: "Mapping[str, AzureCluster]") -> "AzureCluster | None":
    """What the workspace says of a job's compute target; None for any other than its own clusters."""
    return clusters.get(target) if isinstance(target, str) else None


def _usd(node_seconds: float, hourly: tuple[float, float] | None) -> tuple[float, float] | None:
    return (node_seconds / _HOUR_S * hourly[0], node_seconds / _HOUR_S * hourly[1]) if hourly is not None else None
