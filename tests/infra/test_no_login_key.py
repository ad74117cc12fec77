"""The key that nobody can log in with."""

import base64
import subprocess
from pathlib import Path

from infra.no_login_key import no_login_key, point

# The curve's constants as RFC 8032 prints them, not as the program computes them.
P = 57896044618658097711785492504343953926634992332820282019728792003956564819949
D = 37095705934669439343138083508754565189542113879843219016388785533085940283555


def test_ssh_takes_it_for_a_key(tmp_path: Path) -> None:
    """sshd reads the file in the same way, and Azure refuses what is no key."""
    path = tmp_path / "key.pub"
    path.write_text(no_login_key() + "\n")
    said = subprocess.run(["ssh-keygen", "-l", "-f", str(path)], capture_output=True, text=True, check=True).stdout

    assert said.startswith("256 SHA256:")
    assert said.endswith("nobody@tensoryard (ED25519)\n")


def test_it_is_a_point_of_the_curve_and_not_one_of_the_few_weak_ones() -> None:
    encoded = point()
    y = int.from_bytes(encoded, "little") & ~(1 << 255)
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P

    assert pow(square, (P - 1) // 2, P) == 1, "no x for this y"
    # Eight points have a private half that anybody can name; their y are 0, 1, -1 and two others, all roots of this.
    assert y * y * (y * y - 1) * (D * y**4 + 2 * y * y - 1) % P != 0


def test_it_is_the_same_every_time() -> None:
    """Another key would be another machine."""
    line = no_login_key()

    assert line == no_login_key()
    assert len(line.splitlines()) == 1
    assert base64.b64decode(line.split()[1]).endswith(point())
