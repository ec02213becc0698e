import pytest
from server import HAN, UNET, Server, add_model


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository")
    add_model(folder, "cells.tessera", UNET)
    add_model(folder, "reviews.tessera", HAN)
    return folder


@pytest.fixture(scope="session")
def server(repository, tmp_path_factory):
    with Server(repository, tmp_path_factory.mktemp("log") / "server.log", threads=2, max_memory="2G", tile=1000,
                max_request_bytes="8M") as one:
        yield one
