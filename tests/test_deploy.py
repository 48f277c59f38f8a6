"""The files of docs/deploy: leafkit takes their command lines, the server answers what they ask,
and the times that they allow are long enough.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import numpy as np
import pytest
import yaml
from served import make_pair

from leafkit.cli.commands import serve as serve_command
from leafkit.core.errors import UsageError
from leafkit.server import serve as serve_module
from leafkit.server.listen import check_address
from leafkit.server.process import DRAIN_S
from leafkit.server.settings import ServerSettings
from leafkit.server.workers import _KILLED_AFTER_S

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "docs" / "deploy"
KEY = "k-51c"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read_dockerfile() -> list[tuple[str, str]]:
    """Instructions with their words, in order; comments left out, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


DOCKERFILE = read_dockerfile()
ENTRYPOINT: list[str] = json.loads(dict(DOCKERFILE)["ENTRYPOINT"])
DEPLOYMENT, SERVICE = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text("utf-8"))
POD = DEPLOYMENT["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]
UNIT = (DEPLOY / "leafkit.service").read_text("utf-8")


def page(name: str) -> str:
    return (DEPLOY / name).read_text("utf-8")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page(name), re.MULTILINE | re.DOTALL)


def of_unit(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT, re.MULTILINE)


def docker_run() -> list[str]:
    """The words of the page's ``docker run``."""
    (line,) = [b for b in blocks("docker.md", "sh") if b.startswith("docker run")]
    return shlex.split(line)


def lines_of_the_pages() -> list[str]:
    """Every ``leafkit serve`` line that stands in a code block of README or the pages."""
    found = []
    for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]:
        lines = re.findall(r"^(?:    )?leafkit serve (.+)$", path.read_text("utf-8"), re.MULTILINE)
        found += [f"leafkit serve {line}" for line in lines]
    return found


@pytest.fixture
def serve_words(monkeypatch, tmp_path):
    """Runs ``leafkit serve`` up to the server itself; gives folder, port and settings."""
    key_file = tmp_path / "key"
    key_file.write_text(KEY)

    def run(words: list[str]) -> dict[str, Any]:
        called: dict[str, Any] = {}

        def note(folder: Path, port: int, host: str, **settings: Any) -> None:
            check_address(host, port, has_key=bool(settings["api_key"]))
            called.update(settings, folder=folder.as_posix(), port=port, host=host)

        monkeypatch.setattr(serve_module, "serve", note)
        here = [re.sub(r"^api_key_file=.+$", f"api_key_file={key_file}", word) for word in words]
        assert serve_command.run(here) == 0
        return called

    return run


@pytest.fixture(scope="module")
def server():
    with serve_module.serve(
        make_pair(), port=0, block=False, name="kalm-to-23m", api_key=KEY
    ) as running:
        yield running


# Docker


def test_the_image_serves_the_folder_that_it_is_given(serve_words):
    assert ENTRYPOINT[:2] == ["leafkit", "serve"]
    default = serve_words([*ENTRYPOINT[2:], *json.loads(dict(DOCKERFILE)["CMD"])])
    assert (default["folder"], default["host"]) == ("checkpoints/kalm-to-23m", "0.0.0.0")
    assert default["api_key"] == KEY
    words = docker_run()
    own = words[words.index("leafkit") + 1 :]
    assert serve_words([*ENTRYPOINT[2:], *own])["teacher"] == "lazy"
    assert int(dict(DOCKERFILE)["EXPOSE"]) == default["port"]
    assert f"127.0.0.1:8080:{default['port']}" in words


def test_the_image_without_its_key_is_refused():
    words = [word for word in ENTRYPOINT[2:] if not word.startswith("api_key_file")]
    with pytest.raises(UsageError, match="no API key is asked for"):
        serve_command.run([*words, str(ROOT)])


def test_the_image_is_made_of_the_wheel_with_extras_that_exist():
    assert DOCKERFILE[0][0] == "FROM"
    minor = int(re.fullmatch(r"python:3\.(\d+)-slim", DOCKERFILE[0][1])[1])
    assert minor >= int(re.fullmatch(r">=3\.(\d+)", PROJECT["requires-python"])[1])
    copied = dict(DOCKERFILE)["COPY"].split()
    wheel = f"dist/leafkit-{PROJECT['version']}-py3-none-any.whl"
    assert fnmatch(wheel, copied[0])
    (installed,) = [text for name, text in DOCKERFILE if name == "RUN" and "pip" in text]
    assert copied[1] in installed
    extras = set(re.search(r"\[([\w,]+)\]", installed)[1].split(","))
    assert {"serve", "onnx"} <= extras <= PROJECT["optional-dependencies"].keys()
    # the page builds the wheel where the Dockerfile takes it from
    assert "--wheel-dir dist" in blocks("docker.md", "sh")[0]
    order = [name for name, _ in DOCKERFILE]
    assert order.index("USER") < order.index("ENTRYPOINT")
    assert dict(DOCKERFILE)["USER"] != "0"


def test_where_the_page_mounts_is_where_the_image_looks():
    mounts = [word.split(":")[1] for word in docker_run() if word.endswith(":ro")]
    (key,) = [word for word in ENTRYPOINT if word.startswith("api_key_file=")]
    folder = f"{dict(DOCKERFILE)['WORKDIR']}/checkpoints"
    assert mounts == [folder, key.partition("=")[2]]


def test_docker_waits_for_open_requests():
    words = docker_run()
    assert int(words[words.index("--stop-timeout") + 1]) >= _KILLED_AFTER_S


def test_the_health_check_asks_what_is_answered(server):
    words = json.loads(dict(DOCKERFILE)["HEALTHCHECK"].partition(" CMD ")[2])
    for url, status in ((server.url, 0), ("http://127.0.0.1:9", 1)):
        code = words[-1].replace("http://127.0.0.1:8080", url)
        done = subprocess.run([sys.executable, *words[1:-1], code], capture_output=True)
        assert done.returncode == status, done.stderr


# systemd


def test_leafkit_takes_the_units_command_line(serve_words):
    words = shlex.split(of_unit("ExecStart")[0])
    assert words[0].endswith("/leafkit")
    assert words[1] == "serve"
    assert serve_words(words[2:])["api_key"] == KEY
    (credential,) = of_unit("LoadCredential")
    name, _, path = credential.partition(":")
    assert f"api_key_file=%d/{name}" in words
    assert path in page("systemd.md")
    # a setting that is refused ends with status 2
    assert of_unit("RestartPreventExitStatus") == ["2"]


def test_the_unit_waits_for_open_requests():
    assert int(of_unit("TimeoutStopSec")[0]) > _KILLED_AFTER_S
    assert of_unit("KillMode") == ["mixed"]


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not on this machine")
    command = Path(sys.executable).resolve()
    unit = tmp_path / "leafkit.service"

    def verify(text: str) -> subprocess.CompletedProcess[str]:
        # the program must be there
        unit.write_text(text.replace("/opt/leafkit/bin/leafkit", str(command)))
        return subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True)

    done = verify(UNIT)
    assert (done.returncode, done.stdout) == (0, "")
    assert "leafkit.service" not in done.stderr, done.stderr
    assert "leafkit.service" in verify(UNIT + "\n[Service]\nNoSuchKey=1\n").stderr


# Kubernetes


def test_leafkit_takes_the_manifests_command_line(serve_words):
    found = serve_words([*ENTRYPOINT[2:], *CONTAINER["args"]])
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert ports == {"http": found["port"]}
    assert SERVICE["spec"]["ports"][0]["targetPort"] in ports


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_probes_are_answered_without_a_key(server, probe):
    asked = CONTAINER[probe]["httpGet"]
    assert asked["port"] == "http"
    assert httpx.get(server.url + asked["path"]).status_code == 200
    assert httpx.get(f"{server.url}/v1/models").status_code == 401


def test_a_pod_has_time_to_drain():
    before_s = int(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])
    assert POD["terminationGracePeriodSeconds"] >= before_s + _KILLED_AFTER_S > before_s + DRAIN_S


def test_the_manifests_parts_name_each_other():
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == labels
    assert SERVICE["spec"]["selector"] == labels
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in CONTAINER["volumeMounts"]}
    assert {mount["name"] for mount in mounts.values()} == volumes.keys()
    (key,) = [word for word in ENTRYPOINT if word.startswith("api_key_file=")]
    secret = mounts[key.partition("=")[2]]
    create = blocks("kubernetes.md", "sh")[0]
    name = volumes[secret["name"]]["secret"]["secretName"]
    assert f"secret generic {name} --from-file={secret['subPath']}" in create
    assert str(POD["securityContext"]["runAsUser"]) == dict(DOCKERFILE)["USER"]
    cache = re.search(r"LEAFKIT_CACHE=(\S+)", dict(DOCKERFILE)["ENV"])[1]
    assert any(cache.startswith(path) for path, one in mounts.items() if not one.get("readOnly"))


def test_prometheus_settings_are_yaml_with_the_metrics_path(server):
    (job,) = yaml.safe_load(blocks("kubernetes.md", "yaml")[0])["scrape_configs"]
    headers = {"authorization": f"Bearer {KEY}"}
    response = httpx.get(server.url + job["metrics_path"], headers=headers)
    assert "leafkit_requests" in response.text


# other servers and stores


def test_opensearchs_connector_is_answered_for_both_roles(server):
    connectors = [json.loads(b) for b in blocks("opensearch.md", "json") if "actions" in b]
    (connector,) = connectors
    (action,) = connector["actions"]
    texts = ["draw the graph", "compute the matrix"]
    pair = make_pair()
    for role, encode in (("query", pair.encode_query), ("document", pair.encode_document)):
        model = connector["parameters"]["model"].replace(":query", f":{role}")
        filled = action["request_body"]
        for name, value in (("input", json.dumps(texts)), ("model", model)):
            filled = filled.replace(f"${{parameters.{name}}}", value)
        key = action["headers"]["Authorization"].replace("${credential.leafkit_key}", KEY)
        path = action["url"].partition("${parameters.endpoint}")[2]
        response = httpx.post(server.url + path, content=filled, headers={"Authorization": key})
        assert response.status_code == 200, response.text
        found = [row["embedding"] for row in response.json()["data"]]
        np.testing.assert_allclose(found, encode(texts), atol=1e-6)


def test_the_pages_json_and_xml_are_whole():
    for name in ("opensearch.md", "vespa.md"):
        assert [json.loads(block) for block in blocks(name, "json")]
    (services,) = blocks("vespa.md", "xml")
    component = ElementTree.fromstring(services).find("component")
    assert component.get("id") == "student"
    assert component.find("transformer-token-type-ids").text is None
    assert f"embed({component.get('id')}," in page("vespa.md")
    (pipeline,) = [json.loads(b) for b in blocks("opensearch.md", "json") if "processors" in b]
    batch_size = pipeline["processors"][0]["text_embedding"]["batch_size"]
    assert batch_size <= ServerSettings().max_inputs


@pytest.mark.parametrize("line", lines_of_the_pages())
def test_leafkit_takes_every_serve_line_of_the_pages(line, serve_words):
    words = shlex.split(line, comments=True)
    assert serve_words(words[2:])["folder"] == words[2]


def test_there_are_serve_lines():
    assert len(lines_of_the_pages()) >= 2
