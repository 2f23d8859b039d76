"""A download that is cut off, a login page in the Hub's place: one line, status 2, and nothing left behind."""

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.bad_materials import Materials
from tests.support.hub_repos import CUT, Fault, Repo
from tests.support.hub_server import HubServer
from tests.support.warm import WarmCommands

OPTIONS = ["--output_dir", "out", "--use_cpu", "True", "--disable_tqdm", "True", "--num_train_epochs", "1"]


@pytest.fixture(scope="module")
def materials(tmp_path_factory, processor):
    return Materials(tmp_path_factory.mktemp("materials"), processor)


@pytest.fixture
def unlearn(materials, tmp_path):
    """A function: the line that `hf-lotus unlearn` says of a model of a Hub, by the Hub's variables."""

    def run(variables):
        words = ["unlearn", "--model_name_or_path", "someone/model", "--dataset_name", materials.data]
        words += ["--forget_rows", materials.rows, *OPTIONS]
        (tmp_path / "here").mkdir()
        with WarmCommands({**os.environ, **variables, "HF_HUB_OFFLINE": "0"}) as commands:
            done = commands.run(words, tmp_path / "here")
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr and not list((tmp_path / "here").iterdir())
        (line,) = [each for each in done.stderr.splitlines() if each.startswith("hf-lotus")]
        return line

    return run


def test_a_download_that_is_cut_off(unlearn, materials, tmp_path):
    with HubServer() as hub:
        repo = hub.repos["models", "someone/model"] = Repo("models", "someone/model", {"visibility": "public"})
        repo.commit("a model", {path.name: path.read_bytes() for path in materials.model.iterdir()})
        hub.faults.append(Fault("GET", r"/resolve/.*safetensors", CUT, times=50))
        line = unlearn(hub.environment(tmp_path / "home"))
    assert "The model 'someone/model' cannot be loaded" in line


class LoginPage(BaseHTTPRequestHandler):
    def do_GET(self):
        page = b"<html><body>Welcome to the hotel. Please log in.</body></html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page)

    do_HEAD = do_POST = do_GET

    def log_message(self, *_):
        pass


def test_a_login_page_in_the_hubs_place(unlearn, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), LoginPage)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        variables = HubServer.environment(
            type("Page", (), {"url": f"http://127.0.0.1:{server.server_port}"})(), tmp_path / "home"
        )
        line = unlearn(variables)
    finally:
        server.shutdown()
        server.server_close()
    assert "The model 'someone/model' cannot be loaded" in line
