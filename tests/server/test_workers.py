"""Several processes on one port: they share the work and the counters, a dead one is replaced, all
drain, and none outlives its parent.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import tiny
from served import save_pair

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.server import listen
from leafkit.server.process import DRAIN_S
from leafkit.server.serve import serve

pytestmark = pytest.mark.slow
BODY = {"model": "two", "input": "draw the graph"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_pair(tmp_path_factory.mktemp("pairs") / "two")


def start(folder: Path, *words: str, **others) -> tuple[subprocess.Popen, str]:
    command = [sys.executable, "-m", "leafkit.cli", "serve", str(folder), "port=0", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=tiny.environment(), **pipes, **others)
    line = next(line for line in iter(process.stdout.readline, "") if "http://" in line)
    # that line stands there once all workers answer: no call waits for them
    return process, re.search(r"http://[0-9.:]+", line)[0]


def wait_for(condition, seconds: float = 120.0):
    ends_s = time.monotonic() + seconds
    while time.monotonic() < ends_s:
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come to that")


def children(pid: int) -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.add(int(path.parent.name))
    return found


def test_a_dead_worker_is_replaced_and_all_drain(folder):
    process, url = start(folder, "workers=2", "student_documents=true", "index=hnsw")
    try:
        wait_for(lambda: len(children(process.pid)) == 2)
        before = children(process.pid)

        def ask(number: int) -> int:
            body = {"query": "draw the graph", "mode": "student"}
            path, sent = ("/v1/search", body) if number % 2 else ("/v1/embeddings", BODY)
            return httpx.post(f"{url}{path}", json=sent, timeout=60).status_code

        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(ask, range(40))) == {200}
        total = r'leafkit_requests_total\{path="/v1/(?:search|embeddings)",status="200"\} (\d+)'
        # whichever worker is asked tells the sum of both
        for _ in range(6):
            text = httpx.get(f"{url}/metrics", timeout=60).text
            assert sum(map(int, re.findall(total, text))) == 40
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: len(children(process.pid) - {victim}) == 2)
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(ask, range(20))) == {200}
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert "another one takes its place" in out + err
        assert "Traceback" not in out + err
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("is_group", [False, True])
def test_an_open_request_has_its_answer_after_the_port_is_closed(folder, is_group):
    """A supervisor may signal the whole group, so that each worker is told twice."""
    process, url = start(folder, "workers=2", start_new_session=True)
    try:
        address = httpx.URL(url).host, httpx.URL(url).port
        body = json.dumps(BODY).encode()
        head = f"POST /v1/embeddings HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(address, timeout=60) as connection:
            connection.sendall(head.encode() + body[:-1])
            wait_for(lambda: in_flight(url) == 2)  # and the one that asks
            stopped_s = time.monotonic()
            if is_group:
                os.killpg(process.pid, signal.SIGTERM)
            else:
                process.send_signal(signal.SIGTERM)
            wait_for(lambda: is_refused(address), seconds=DRAIN_S / 2)
            time.sleep(1)  # workers that drop what is open have done so by now
            assert process.poll() is None
            connection.sendall(body[-1:])
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200"), answer[:500]
        assert b'"embedding":[' in answer
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - stopped_s < DRAIN_S / 2
        assert process.returncode == 0, err
        assert "every open request was answered" in out + err
        assert "Traceback" not in out + err
    finally:
        process.kill()
        process.wait()


def in_flight(url: str) -> int:
    text = httpx.get(f"{url}/metrics", timeout=60).text
    return int(re.search(r"^leafkit_requests_in_flight (\d+)", text, re.MULTILINE)[1])


def is_refused(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=5).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def test_workers_end_with_a_parent_that_is_killed(folder):
    process, _ = start(folder, "workers=2")
    try:
        wait_for(lambda: len(children(process.pid)) == 2)
        workers = children(process.pid)
    finally:
        process.kill()
        process.communicate()
    wait_for(lambda: not any(is_running(pid) for pid in workers), seconds=60)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_api_has_workers_too(folder):
    with serve(str(folder), port=0, block=False, workers=2, name="two") as server:
        assert httpx.post(f"{server.url}/v1/embeddings", json=BODY, timeout=60).status_code == 200
        assert "answers" in repr(server)
    assert "is closed" in repr(server)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/health")


def test_workers_that_cannot_start_are_one_error(folder, monkeypatch, capfd):
    monkeypatch.setenv("PYTHONPATH", "/no/such/place")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(LeafkitError, match="end before they answer, the last one with status 1"):
        serve(folder, port=0, block=False, workers=2)


def test_a_folder_without_a_pair_is_one_error(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        serve(tmp_path / "none", port=0, block=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LeafkitError, match="not the folder of a finished run"):
        serve(tmp_path / "empty", port=0, block=False)


def test_workers_on_a_port_that_another_server_took_meanwhile_say_so(folder, monkeypatch, capfd):
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]

        def take_port(*address):
            taken = listen.take_port(*address)
            other.listen()
            return taken

        monkeypatch.setattr("leafkit.server.serve.take_port", take_port)
        with pytest.raises(LeafkitError, match="end before they answer"):
            serve(folder, port=port, block=False, workers=2)
    out, err = capfd.readouterr()
    assert f"cannot listen on 127.0.0.1:{port}" in err
    assert "Traceback" not in out + err
