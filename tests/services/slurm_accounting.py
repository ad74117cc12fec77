"""A Slurm cluster with accounting: a real slurmdbd, and the MariaDB that it keeps its records in."""

import shutil
import socket
import subprocess

from services.slurm import SlurmCluster, wait_until

ACCOUNT = "vision"
_SLURMDBD = """
AuthType=auth/munge
AuthInfo=socket={munge}
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
LogFile={folder}/log/slurmdbd.log
PidFile={folder}/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database_port}
StorageUser=root
StorageLoc=accounting
"""


class AccountingCluster(SlurmCluster):
    """Jobs have accounts: root submits for its own, `root`, and for `vision`."""

    links = "tya"

    def start_accounting(self) -> None:
        assert shutil.which("slurmdbd", path=self.environ["PATH"]), (
            "the tests need slurmdbd: run tools/system-packages"
        )
        port, database_port = _free_port(), _free_port()
        self._start_database(database_port)
        conf = self.folder / "slurmdbd.conf"
        conf.touch(0o600)
        conf.write_text(
            _SLURMDBD.format(
                munge=self.munge_socket,
                host=socket.gethostname(),
                port=port,
                database_port=database_port,
                folder=self.folder,
            )
        )
        text = self.conf.read_text().replace("accounting_storage/none", "accounting_storage/slurmdbd")
        text += f"AccountingStorageHost=127.0.0.1\nAccountingStoragePort={port}\n"
        text += f"AccountingStoragePass={self.munge_socket}\n"
        self.conf.write_text(text + "AccountingStorageEnforce=associations,limits,qos\n")
        self._daemon("slurmdbd", "-D")
        wait_until(lambda: _listens(port), "slurmdbd listens")
        for words in ("cluster tests", f"account {ACCOUNT} cluster=tests", f"user root account={ACCOUNT}"):
            self.run("sacctmgr", "--immediate", "add", *words.split())

    def _start_database(self, port: int) -> None:
        data = self.folder / "database"
        plain = ["--no-defaults", f"--datadir={data}", "--user=root"]
        options = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(
            ["mariadb-install-db", *plain, *options], env=self.environ, stdout=subprocess.DEVNULL, check=True
        )
        # Its records need not outlive a power cut.
        quick = ["--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync", "--skip-name-resolve"]
        where = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={data}/socket"]
        self._daemon("mariadbd", *plain, *quick, *where)
        wait_until(lambda: _listens(port), "MariaDB listens")


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0
