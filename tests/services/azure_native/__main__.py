"""
The stand-in as the program that Pulumi's engine starts: `python -m services.azure_native [engine's address]`.

STAND_IN_AZURE: the folder that is Azure. Prints the port that it listens on, and ends when the engine ends it.
"""

import os
import sys
from concurrent import futures
from pathlib import Path

import grpc
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from pulumi.runtime.proto import provider_pb2_grpc

from services.azure_native.cloud import Cloud
from services.azure_native.provider import Provider


def main() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(8), options=_GRPC_CHANNEL_OPTIONS)
    provider = Provider(Cloud(Path(os.environ["STAND_IN_AZURE"])))
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    server.wait_for_termination()


main()
