"""A stack's file is read whole, or refused in one paragraph."""

from pathlib import Path

import pytest

from infra.settings import SettingsError, stack_values
from read_settings import is_one_readable_paragraph


def write(folder: Path, text: str) -> Path:
    """A stack file of that text."""
    path = folder / "Pulumi.mine.yaml"
    path.write_text(text)
    return path


def test_stack_files_are_read_with_and_without_the_namespace(tmp_path: Path) -> None:
    text = """
encryptionsalt: v1:abc
config:
  azure-native:location: eastus
  azure-native:subscriptionId: whatever
  tensoryard:zones: [1]
  softDeleteDays: 30
  other:key: {secure: abc}
"""

    assert stack_values(write(tmp_path, text)) == ({"zones": [1], "softDeleteDays": 30}, "eastus")


@pytest.mark.parametrize("text", ["", "config:\n", "encryptionsalt: x\n"])
def test_stack_file_without_settings_has_none(tmp_path: Path, text: str) -> None:
    assert stack_values(write(tmp_path, text)) == ({}, None)


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("config: [1", "Pulumi.mine.yaml", "no YAML"),
        ("config: 5", "Pulumi.mine.yaml", "`config:`"),
        ("- a", "Pulumi.mine.yaml", "`config:`"),
        ("config:\n  tensoryard:headSize:\n    secure: v1:abc\n", "tensoryard:headSize", "encrypted"),
        ("config:\n  clusters:\n    - name: {secure: v1:abc}\n", "tensoryard:clusters[0].name", "encrypted"),
    ],
)
def test_stack_file_that_cannot_be_read_is_one_error(tmp_path: Path, text: str, key: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        stack_values(write(tmp_path, text))

    assert caught.value.key == key
    assert says in str(caught.value)
    assert is_one_readable_paragraph(caught.value)


def test_missing_stack_names_those_there_are(tmp_path: Path) -> None:
    write(tmp_path, "")

    with pytest.raises(SettingsError, match="There are: mine"):
        stack_values(tmp_path / "Pulumi.prod.yaml")
