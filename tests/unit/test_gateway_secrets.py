"""A reference becomes its value, or says which one cannot; never a value in the words."""

from pathlib import Path

import pytest

from schemas.secrets import FILE_BYTES_MAX, SecretMissing, resolve


def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "value:with:colons")
    assert resolve("env:A_SECRET").get_secret_value() == "value:with:colons"


@pytest.mark.parametrize(
    ("text", "value"), [(b"abc\n", "abc"), (b"abc\r\n", "abc"), (b" a\nb \n\n", " a\nb \n")]
)
def test_from_a_file_without_its_last_line_end(tmp_path: Path, text: bytes, value: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes(text)
    assert resolve(f"file:{path}").get_secret_value() == value
    path.write_bytes(b"rotated")
    assert resolve(f"file:{path}").get_secret_value() == "rotated"


def test_what_cannot_be_resolved_names_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("UNSET", raising=False)
    for name, data in [
        ("empty", b"\n"),
        ("binary", b"\xff"),
        ("large", b"x" * (FILE_BYTES_MAX + 1)),
    ]:
        (tmp_path / name).write_bytes(data)
    references = ["env:EMPTY", "env:UNSET", f"file:{tmp_path}", f"file:{tmp_path}/none"]
    references += [f"file:{tmp_path}/{name}" for name in ("empty", "binary", "large")]
    for reference in references:
        with pytest.raises(SecretMissing) as caught:
            resolve(reference)
        assert caught.value.reference == reference
        assert reference in str(caught.value)


@pytest.mark.parametrize("text", ["", "env:", "file:"])
def test_half_a_reference(text: str) -> None:
    with pytest.raises(SecretMissing):
        resolve(text)


@pytest.mark.parametrize("text", ["hunter2", "vault:x", "ENV:x"])
def test_a_secret_in_place_of_its_reference_is_not_repeated(text: str) -> None:
    with pytest.raises(SecretMissing) as caught:
        resolve(text)
    assert text not in str(caught.value)
