"""TLS of the driver, against what stands in front of a server: a proxy that ends it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading

import pytest

import iotdb_client
from harness.fake_database import Table
from iotdb_client.conninfo import Tls, parse_conninfo
from iotdb_client.errors import ProgrammingError


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate of localhost, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext"
    subprocess.run(
        [*command.split(), names, "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
    )
    return cert, key


def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    finally:
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def tls_port(certificate, port):
    """A port that speaks TLS, and passes on to the server."""
    cert, key = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    listener = socket.create_server(("127.0.0.1", 0))
    threads = []
    sockets = [listener]

    def accept():
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            try:
                near = context.wrap_socket(raw, server_side=True)
            except (ssl.SSLError, OSError):
                raw.close()
                continue
            far = socket.create_connection(("127.0.0.1", port))
            sockets.extend((near, far))
            for ends in ((near, far), (far, near)):
                threads.append(threading.Thread(target=pump, args=ends))
                threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    acceptor.join()
    for thread in threads:
        thread.join()
    for sock in sockets:
        sock.close()


def test_a_certificate_that_is_trusted(database, certificate, tls_port):
    database.results["q"] = Table(["a"], ["INT64"], [(1,)], times=[5])
    url = f"jdbc:iotdb://localhost:{tls_port}/?use_ssl=true&ssl_ca={certificate[0]}"
    with iotdb_client.connect(url) as connection:
        assert connection.execute("q").fetchall() == [(5, 1)]


def test_one_that_is_not(tls_port):
    with pytest.raises(iotdb_client.OperationalError, match="certificate"):
        iotdb_client.connect(f"jdbc:iotdb://localhost:{tls_port}/?use_ssl=true")
    url = f"jdbc:iotdb://localhost:{tls_port}/?use_ssl=true&ssl_verify=false"
    iotdb_client.connect(url).close()


def test_files_that_are_not_there(tls_port):
    with pytest.raises(iotdb_client.InterfaceError, match=r"/none\.pem"):
        iotdb_client.connect(f"jdbc:iotdb://localhost:{tls_port}/?ssl_ca=/none.pem")


def info_of(url):
    return parse_conninfo(
        url, user="u", password="p", fetch_size=1, timeout_s=None, zone="UTC", retry_s=1
    )


def test_what_a_url_says_of_tls():
    assert info_of("jdbc:iotdb://h/").tls is None
    assert info_of("jdbc:iotdb://h/?use_ssl=true").tls == Tls()
    assert info_of("iotdb://h/?ssl_ca=a&ssl_cert=b&ssl_key=c&ssl_verify=false").tls == Tls(
        "a", "b", "c", verify=False
    )
    with pytest.raises(ProgrammingError, match="use_ssl=false"):
        info_of("jdbc:iotdb://h/?use_ssl=false&ssl_ca=a")


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        (":memory:", ":memory:"),
        ("./db", "./db"),
        ("/var/db", "/var/db"),
        ("a/b", "a/b"),
        (".", "."),
        ("db", None),
        ("h:6667", None),
        ("iotdb://h", None),
        ("h1,h2:7000", None),
    ],
)
def test_folders_are_told_from_hosts(text, folder):
    assert info_of(text).folder == folder


@pytest.mark.parametrize("text", ["h:6667/x", "h:1,g:2/x", "jdbc:iotdb://h/x", "[::1]:1/x"])
def test_a_path_behind_a_host_is_a_mistake_and_no_folder(text):
    with pytest.raises(ProgrammingError, match="no meaning"):
        info_of(text)
